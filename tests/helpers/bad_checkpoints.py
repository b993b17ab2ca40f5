"""Hypothesis strategies for damaged, altered and foreign files, and checkpoints that hold code."""

from __future__ import annotations

import io
import os
import pickle
import re
from argparse import Namespace
from pathlib import Path
from typing import Any

import torch
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

ODD_WORDS = "nan inf -1 1e999 999999999999999999999999 0 x {} [] null ffn encoder é 7.5".split()
ODD_WORDS += ["", "\x1b[2J", "[" * 20_000, '"x"', "\n", "\t"]
# Values of wrong types, out of range, or unprintable.
JUNK = st.recursive(
    st.none()
    | st.booleans()
    | st.sampled_from([0, 1, -1, 2, 2**63, 10**30, 0.5, 1e308, float("inf"), float("nan")])
    | st.sampled_from(
        ["${a}", "../..", "x\ny", "\x1b[2J", "é\u2028漢", "%s {0}", "ffn", "max", ""]
    ),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=4,
)
TENSORS = st.sampled_from(
    [
        torch.zeros(0),
        torch.zeros(2, 2),
        torch.full((2, 2, 5), float("nan")),
        torch.zeros(3, dtype=torch.int64),
        torch.zeros(2, 2, 5, dtype=torch.complex64),
        torch.zeros(2, 2, 5).to_sparse(),
        torch.zeros(2, 2, 5, device="meta"),
    ]
)


class Touch:
    """Creates a folder when it is unpickled, as malicious code in a file would."""

    def __init__(self, path: Path | str):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


@st.composite
def damaged(draw, good: bytes) -> bytes:
    """Bytes cut off, changed, inserted or removed, at any position."""
    at = draw(st.integers(0, len(good) - 1))
    changed = bytes([good[at] ^ 1 << draw(st.integers(0, 7))])
    return draw(
        st.sampled_from(
            [
                good[:at],
                good[:at] + changed + good[at + 1 :],
                good[:at] + bytes(min(4096, len(good) - at)) + good[at + 4096 :],
                good[:at] + b"x\n" + good[at:],
                good[:at] + good[at + 50 :],
            ]
        )
    )


@st.composite
def odd_words(draw, good: bytes) -> bytes:
    """A text in which one to three words or numbers are replaced."""
    parts = re.split(r"(\w[\w.]*)", good.decode())
    for at in draw(st.lists(st.integers(0, len(parts) - 1), min_size=1, max_size=3)):
        parts[at] = draw(st.sampled_from(ODD_WORDS))
    return "".join(parts).encode()


@st.composite
def altered(draw, tree: Any, junk: SearchStrategy = JUNK) -> Any:
    """A copy of nested dictionaries and lists with one value replaced or removed."""
    keys = list(tree) if isinstance(tree, dict) else range(len(tree) if type(tree) is list else 0)
    if not keys or draw(st.integers(0, 5)) == 0:
        return draw(junk)
    key, tree = draw(st.sampled_from(keys)), tree.copy()
    if draw(st.integers(0, 5)) == 0:
        del tree[key]
    else:
        tree[key] = draw(altered(tree[key], junk))
    return tree


def saved(value: Any, **how: Any) -> bytes:
    """The bytes that ``torch.save`` writes."""
    file = io.BytesIO()
    torch.save(value, file, **how)
    return file.getvalue()


@st.composite
def foreign_checkpoints(draw, good: dict[str, Any], marker: Path) -> bytes:
    """Files that no training has written; those with code would create ``marker``."""
    touch, code = Touch(marker), f"__import__('os').mkdir({str(marker)!r})"
    cfg = good["cfg"]
    values = [{}, [], 1, None, torch.zeros(1), {"model": {}}, {"model": None, "cfg": None}]
    values += [good["model"], {**good, "cfg": None}, {"model": good["model"], "args": Namespace()}]
    values += [{**good, "cfg": {**cfg, "model": {**cfg["model"], "_name": "transformer"}}}]
    values += [{**good, "cfg": {**cfg, "model": {**cfg["model"], "conv_layers": code}}}]
    values += [{**good, "cfg": {**cfg, "criterion": {**cfg["criterion"], "wer_args": code}}}]
    values += [{**good, place: touch} for place in ("model", "args", "extra_state")]
    value, old = draw(st.sampled_from(values)), draw(st.booleans())
    files = [saved(value, _use_new_zipfile_serialization=not old)] * 4
    files += [pickle.dumps({"model": touch}), b"", b"\n" * 9, b"\x80\x02.", b"PK\x03\x04"]
    return draw(st.sampled_from(files))
