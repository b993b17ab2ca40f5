"""Strategies for bad input of any kind: values, bytes, words; and for genotypes."""

from __future__ import annotations

import json
import re
from argparse import Namespace
from collections.abc import Callable
from copy import deepcopy
from typing import Any

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from fairseq_dartsformer.operations import OPERATIONS_BY_STACK
from fairseq_dartsformer.search_space.families import FAMILIES, FIXED_OPERATION
from fairseq_dartsformer.search_space.genotype import Genotype

NAMES = (*OPERATIONS_BY_STACK["decoder"], *"conv_4 FFN max avg dartsformer version".split(), "")

# What may stand where something else should: any plain type, odd numbers, odd text.
SCALARS = (
    st.none()
    | st.booleans()
    | st.sampled_from([0, 1, -1, 2, 3, 2**31, 2**63, -(2**64), 10**30])
    | st.sampled_from([0.0, -0.5, 0.5, 1.5, 1e308, float("inf"), float("nan")])
    | st.sampled_from(NAMES)
    | st.sampled_from(
        ["${a}", "../..", "x\ny", "\x1b[2J", "é\u2028漢", "\ud800", "%s {0} $x$", "1"]
    )
    | st.text(max_size=8)
)
JUNK = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=3)
    ),
    max_leaves=6,
)


def places(tree: Any, path: tuple = ()) -> list[tuple]:
    """Paths to all values within dictionaries, namespaces and sequences."""
    inner = vars(tree) if isinstance(tree, Namespace) else tree
    if isinstance(inner, dict):
        inside = list(inner.items())
    elif isinstance(inner, list | tuple):
        inside = list(enumerate(inner))
    else:
        return [path]
    return [path, *(p for key, value in inside for p in places(value, (*path, key)))]


@st.composite
def changed(draw, tree: Any, junk: SearchStrategy = JUNK) -> Any:
    """A copy of nested values, one of which is another, or gone, or there twice."""
    path: tuple = ()
    inside = _inside(tree)
    # Level by level, so that what is rare but near the root has its turn.
    while inside:
        path = (*path, draw(st.sampled_from(list(inside))))
        inside = _inside(inside[path[-1]])
        if draw(st.integers(0, 3)) == 0:
            break
    how = draw(st.sampled_from(["other", "other", "other", "gone", "twice", "root"]))
    if not path or (how == "root" and draw(st.booleans())):
        return draw(junk)
    value = draw(junk) if how in ("other", "root") else None
    return _with(tree, path, how, value)


def _inside(tree: Any) -> dict:
    if isinstance(tree, Namespace):
        return vars(tree)
    if isinstance(tree, dict):
        return tree
    return dict(enumerate(tree)) if isinstance(tree, list | tuple) else {}


def _with(tree: Any, path: tuple, how: str, value: Any) -> Any:
    """``tree`` with the value at ``path`` changed; nothing of ``tree`` itself is."""
    key, *rest = path
    if isinstance(tree, Namespace):
        return Namespace(**_with(vars(tree), path, how, value))
    if isinstance(tree, tuple):
        return tuple(_with(list(tree), path, how, value))
    tree = tree.copy()
    if rest:
        tree[key] = _with(tree[key], tuple(rest), how, value)
    elif how == "gone":
        del tree[key]
    elif how == "twice" and isinstance(tree, list):
        tree.insert(key, deepcopy(tree[key]))
    elif how == "twice":
        tree[f"{key}2"] = tree[key]
    else:
        tree[key] = value
    return tree


@st.composite
def damaged(draw, good: bytes) -> bytes:
    """Cut anywhere, with bytes changed anywhere, or bytes put in or taken out."""
    place = st.integers(0, len(good) - 1)
    how = draw(st.sampled_from(["cut", "cut", "empty", "flip", "flip", "zeros", "in", "out"]))
    if how == "empty":
        return b""
    at = draw(place)
    if how == "cut":
        return good[:at]
    if how == "in":
        return good[:at] + draw(st.binary(min_size=1, max_size=9)) + good[at:]
    if how == "out":
        return good[:at] + good[at + draw(st.integers(1, 99)) :]
    if how == "zeros":
        size = min(draw(st.integers(1, 4096)), len(good) - at)
        return good[:at] + bytes(size) + good[at + size :]
    bad = bytearray(good)
    for i in [at, *draw(st.lists(place, max_size=4))]:
        bad[i] ^= 1 << draw(st.integers(0, 7))
    return bytes(bad)


ODD_WORDS = "nan inf -1 1e999 999999999999999999999999 0 x {} [] null true ffn é \x1b[2J".split()
ODD_WORDS += ["", "[" * 20000, '"x"', "\n", "\t", "7.5", "encoder", "-inf"]


@st.composite
def odd_words(draw, good: bytes) -> bytes:
    """A text of which some words or numbers are others."""
    parts = re.split(r"(\w[\w.]*)", good.decode())
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(parts) - 1))
        parts[at] = draw(st.sampled_from(ODD_WORDS))
    return "".join(parts).encode()


# -- genotypes


@st.composite
def genotypes(draw) -> Genotype:
    """Any genotype."""
    family = draw(st.sampled_from(list(FAMILIES.values())))
    blocks = []
    for stack, names in OPERATIONS_BY_STACK.items():
        nodes = family.nodes[stack] or draw(st.integers(2, 4))
        nodes -= stack == "decoder"
        layer = st.lists(st.sampled_from(names), min_size=nodes, max_size=nodes)
        layers = draw(st.lists(layer, min_size=1, max_size=3))
        blocks.append([family.with_fixed(stack, names, FIXED_OPERATION) for names in layers])
    pooling = draw(st.sampled_from(["max", "avg"])) if family.pooled else None
    return Genotype(*blocks, pooling, family.name)


@st.composite
def genotype_texts(draw) -> bytes:
    """What may be in a genotype's file: a good one, or one that is bad in its values, its JSON, its
    encoding or its size."""
    good = draw(genotypes()).to_json()
    how = draw(st.sampled_from(["good", "values", "values", "values", "text", "bytes", "odd"]))
    if how == "values":
        record = draw(changed(json.loads(good)))
        return json.dumps(record).encode("utf-8", "surrogatepass")
    if how == "text":
        at = draw(st.integers(0, len(good)))
        put = st.sampled_from([*'{}[]",:', '"version": 1,', "// no\n", "NaN", "-Infinity", "\\u12"])
        return (good[:at] + draw(put) + good[at + draw(st.integers(0, 9)) :]).encode()
    if how == "bytes":
        encoding = draw(st.sampled_from(["utf-16", "utf-8-sig", "utf-32", "utf-8"]))
        encoded = good.encode(encoding)
        return encoded if encoding != "utf-8" else draw(damaged(encoded))
    if how == "odd":
        return draw(st.sampled_from(ODD_TEXTS))()
    return good.encode()


def _many(layers: int, splits: int) -> bytes:
    encoder = [["ffn"] * splits] * layers
    decoder = [["ffn"] * (splits - 1) + ["cross_attention"]] * layers
    record = {"version": 1, "pooling": "max", "encoder": encoder, "decoder": decoder}
    return json.dumps(record).encode()


ODD_TEXTS: list[Callable[[], bytes]] = [
    lambda: b"",
    lambda: b"\x00",
    lambda: b" " * 10**6,
    lambda: b"[" * 10**5,
    lambda: b'{"version":' * 10**4,
    lambda: b'{"version": ' + b"1" * 5000 + b"}",
    lambda: b'{"version": 1e999, "pooling": "max", "encoder": [], "decoder": []}',
    lambda: b'{"encoder": "' + b"ffn" * 10**5 + b'"}',
    lambda: _many(10**5, 2),
    lambda: _many(1, 10**5),
    lambda: _many(300, 300),
    lambda: "ｆｆｎ".encode(),
    lambda: "é".encode("latin-1"),
]
