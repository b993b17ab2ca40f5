"""The genotype: the operation of every node, as a frozen record and as JSON (Section 3.1)."""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from reprlib import repr as shown
from typing import Any

from ..errors import InputError
from ..reversible import POOLINGS
from .families import DARTSFORMER, FAMILIES, FIXED_OPERATION, STACKS, Family

VERSION = 1
LONGEST = 1 << 20  # characters of a file; a hundred layers have five thousand

Block = tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Genotype:
    """One architecture: ``encoder[i][k]`` is the operation of node k in layer i of the block.

    A node is a split of a reversible layer, or a node of a Transformer layer. A stack repeats its
    block. The two blocks may differ in length, and DARTSformer's also in the number of splits. The
    decoder's fixed node is included. A family without an encoder has no block of it. Lists are
    converted to tuples.

    Raises:
        InputError: a value is not allowed; the message names its place and the allowed values.
    """

    encoder: Block | None = None
    decoder: Block = ()
    pooling: str | None = "max"  # None in a family without splits
    family: str = DARTSFORMER.name
    version: int = VERSION
    norm: str = "post"  # a key of NORMS, for all operations

    def __post_init__(self) -> None:
        # True and 1.0 also equal 1
        if type(self.version) is not int or self.version != VERSION:
            raise InputError(f"version is {shown(self.version)}: expected {VERSION}")
        if self.family not in list(FAMILIES):
            expected = " or ".join(map(repr, FAMILIES))
            raise InputError(f"family is {shown(self.family)}: expected {expected}")
        family = FAMILIES[self.family]
        if family.pooled and self.pooling not in list(POOLINGS):
            raise InputError(f"pooling is {shown(self.pooling)}: expected 'max' or 'avg'")
        if not family.pooled and self.pooling is not None:
            expected = f"expected none, as {self.family} has no splits"
            raise InputError(f"pooling is {shown(self.pooling)}: {expected}")
        family.check_norm(self.norm, "norm")
        for stack in STACKS:
            block = getattr(self, stack)
            if stack in family.stacks:
                object.__setattr__(self, stack, _block(block, stack, family))
            elif block is not None:
                expected = f"expected none, as {self.family} has no {stack}"
                raise InputError(f"{stack} is {shown(block)}: {expected}")

    @property
    def blocks(self) -> dict[str, Block]:
        """The block of each stack that the family has."""
        return {stack: getattr(self, stack) for stack in FAMILIES[self.family].stacks}

    @property
    def encoder_splits(self) -> int | None:
        """``None`` without an encoder."""
        return None if self.encoder is None else len(self.encoder[0])

    @property
    def decoder_splits(self) -> int:
        """Includes the fixed split, if there is one."""
        return len(self.decoder[0])

    def to_json(self) -> str:
        """Write JSON in a fixed order, one layer a line: equal genotypes have equal texts."""

        def block(layers: Block) -> str:
            return "[\n" + ",\n".join(f"    {json.dumps(layer)}" for layer in layers) + "\n  ]"

        values = {
            "version": json.dumps(self.version),
            "family": json.dumps(self.family),
            **({} if self.pooling is None else {"pooling": json.dumps(self.pooling)}),
            **({} if self.norm == "post" else {"norm": json.dumps(self.norm)}),
            **{stack: block(layers) for stack, layers in self.blocks.items()},
        }
        lines = (f'  "{key}": {value}' for key, value in values.items())
        return "{\n" + ",\n".join(lines) + "\n}"

    @classmethod
    def from_json(cls, text: str, where: str) -> "Genotype":
        """Read a genotype; an :class:`InputError` names ``where`` as the source of a text that is
        not JSON, or not a genotype."""
        try:
            return cls(**_record(text))
        except InputError as error:
            raise InputError(f"genotype {where}: {error}") from None

    @classmethod
    def load(cls, spec: str | os.PathLike[str]) -> "Genotype":
        """Read a genotype from JSON text (it starts with ``{``), a built-in name or a file.

        Raises:
            InputError: ``spec`` is none of these, or its content is not a genotype.
        """
        spec = os.fspath(spec)
        if spec.lstrip().startswith("{"):
            return cls.from_json(spec, "given as text")
        if spec in BUILTIN:
            return BUILTIN[spec]
        try:
            text = read_text(spec, "genotype")
        except FileNotFoundError:
            kinds = f"neither a file nor a built-in genotype ({', '.join(BUILTIN)})"
            raise InputError(f"genotype {spec}: {kinds}") from None
        return cls.from_json(text, spec)


def read_text(path: str, kind: str) -> str:
    """Read a text file of at most :data:`LONGEST` characters.

    Args:
        path: the file.
        kind: what it should hold, for errors.

    Raises:
        InputError: the file cannot be read.
        FileNotFoundError: there is none.
    """
    try:
        with Path(path).open(encoding="utf-8-sig") as file:
            text = file.read(LONGEST + 1)
    except FileNotFoundError:
        raise
    except UnicodeDecodeError as error:
        raise InputError(f"{kind} {path}: not UTF-8 at byte {error.start}") from None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"{kind} {path}: cannot be read: {reason}") from None
    if len(text) > LONGEST:
        raise InputError(f"{kind} {path}: is too long: it has over {LONGEST} characters")
    return text


def _record(text: str) -> dict[str, Any]:
    """Parse JSON strictly: an object that has each of a genotype's keys once."""
    try:
        record = json.loads(text, object_pairs_hook=_object, parse_constant=_constant)
    except InputError:
        raise
    except RecursionError:
        raise InputError("not JSON: nested too deeply") from None
    except ValueError as error:
        raise InputError(f"not JSON: {error}") from None
    if not isinstance(record, dict):
        raise InputError(f"is {shown(record)}: expected an object {{...}}")
    name = record.get("family")
    family = FAMILIES.get(name if isinstance(name, str) else DARTSFORMER.name, DARTSFORMER)
    required = ("version", "pooling", *family.stacks)
    for key in record:
        if key not in (*required, "family", "norm"):
            expected = f"expected {', '.join(required)}, and perhaps family or norm"
            raise InputError(f"unknown key {shown(key)}: {expected}")
    if not family.pooled:
        required = tuple(key for key in required if key != "pooling")
        record.setdefault("pooling", None)
    for key in required:
        if key not in record:
            raise InputError(f"{key} is missing: expected {', '.join(required)}")
    return record


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    record: dict[str, Any] = {}
    for key, value in pairs:
        if key in record:
            raise InputError(f"key {shown(key)} occurs twice")
        record[key] = value
    return record


def _constant(name: str) -> Any:
    raise InputError(f"not JSON: {name} is not a JSON number")


def _block(layers: Any, stack: str, family: Family) -> Block:
    """Check one stack's block and return it as tuples."""
    _check_list(layers, stack, "a list of layers", 1)
    for i, layer in enumerate(layers):
        place = f"{stack}[{i}]"
        _check_list(layer, place, f"a list of operations, one a {family.node}", 2)
        for nodes, reason in (
            (family.nodes[stack], family.name),
            (len(layers[0]), f"{stack}[0]"),  # the layers of a stack have the same nodes
        ):
            if nodes not in (None, len(layer)):
                length = f"has length {len(layer)}: expected {nodes}, as {reason} has"
                raise InputError(f"{place} {length}")
        for k, name in enumerate(layer):
            if not isinstance(name, str) or name not in family.operations(stack):
                expected = f"expected one of {family.describe_operations(stack)}"
                raise InputError(f"{place}[{k}] is {shown(name)}: {expected}")
            if family.is_fixed(stack, k, len(layer)) and name != FIXED_OPERATION:
                which = {-1: "last", 1: "second"}[family.fixed]
                raise InputError(
                    f"{place}[{k}] is {name!r}: the {which} {family.node} of every decoder "
                    f"layer is fixed: {FIXED_OPERATION!r}"
                )
    return tuple(tuple(layer) for layer in layers)


def _check_list(value: Any, place: str, expected: str, shortest: int) -> None:
    if not isinstance(value, list | tuple):
        raise InputError(f"{place} is {shown(value)}: expected {expected}")
    if len(value) < shortest:
        length = f"has length {len(value)}"
        raise InputError(f"{place} {length}: expected {expected}, {shortest} or more")


BUILTIN: dict[str, Genotype] = {
    # A reconstruction of the paper's Figure 4 from a description, not the authors' own record.
    # The order of the layers is uncertain.
    "paper_fig4_approx": Genotype(
        encoder=(("ffn", "ffn"), ("self_attention", "self_attention")),
        decoder=(
            ("ffn", "cross_attention", "cross_attention"),
            ("self_attention", "cross_attention", "cross_attention"),
        ),
    ),
}
