"""A table of what each operation adds to the time of a translation, and predictions from it."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from reprlib import repr as shown
from typing import Any

from ..errors import InputError, flag
from .families import FAMILIES, Family
from .genotype import Genotype, read_text

VERSION = 1
MOST = 1e9  # milliseconds, eleven days
WORDS = ("family", "operation_norm", "pooling")  # sizes that are not numbers


def sizes_of(family: Family) -> tuple[str, ...]:
    """Return the options of a supernet that decide, besides its operations, how long it takes."""
    names = ["embed_dim", "hidden_dim", "ffn_dim", "attention_heads", "operation_norm"]
    names += [f"{stack}_layers" for stack in family.stacks]
    if family.pooled:
        names += [*(f"{stack}_splits" for stack in family.stacks), "pooling"]
    return tuple(names)


def network_of(options: Mapping[str, Any], family: str) -> dict[str, int | str]:
    """Return the sizes that a table depends on, from a supernet's options and its family."""
    found, splits = {}, FAMILIES[family].nodes_of(options)
    for name in sizes_of(FAMILIES[family]):
        value = splits.get(name.removesuffix("_splits"), options.get(name))
        if name == "operation_norm" and value is None:  # in a checkpoint of an earlier version
            value = "post"
        found[name] = value if isinstance(value, int) else str(value)
    return {"family": family, **found}


@dataclass(frozen=True)
class LatencyTable:
    """Milliseconds that parts of a network take to translate a batch.

    The batch has ``sentences`` sentences of ``length`` tokens without padding. Its translation is
    one pass of the encoder over `sentences × length` tokens, then ``length`` steps of incremental
    decoding, up to the logits, of `sentences · beam` rows; a language model has the steps alone.
    The search among the logits is not part of it.

    Attributes:
        device: processor or GPU, number of threads, version of torch.
        precision: ``"float32"``, ``"fp16"`` or ``"bf16"``.
        sentences, beam, length: the batch.
        vocabulary: symbols of the target dictionary.
        network: the sizes of the network, see :func:`network_of`.
        fixed: by stack, what does not depend on the searched nodes: embedding, coupling, norms,
            fixed nodes, and the decoder's output layer.
        operations: by stack and name, what a searched node adds in one layer: in the encoder for
            the complete sequence, in the decoder for all steps. By definition 0 for ``zero``.
        path: where the table is from, for errors.

    Raises:
        InputError: a value is not allowed.
    """

    device: str
    precision: str
    sentences: int
    beam: int
    length: int
    vocabulary: int
    network: Mapping[str, int | str]
    fixed: Mapping[str, float]
    operations: Mapping[str, Mapping[str, float]]
    version: int = VERSION
    path: str = field(default="", compare=False)

    def __post_init__(self) -> None:
        if type(self.version) is not int or self.version != VERSION:
            raise self._error(f"version is {shown(self.version)}: expected {VERSION}")
        for name in ("device", "precision"):
            if not isinstance(getattr(self, name), str):
                raise self._error(f"{name} is {shown(getattr(self, name))}: expected a text")
        for name in ("sentences", "beam", "length", "vocabulary"):
            value = getattr(self, name)
            if type(value) is not int or value < 1:
                raise self._error(f"{name} is {shown(value)}: expected a positive integer")
        self._check_network()
        stacks = FAMILIES[self.network["family"]].stacks
        self._check_milliseconds("fixed", self.fixed, stacks)
        if not isinstance(self.operations, dict) or set(self.operations) != set(self.fixed):
            expected = f"expected {', '.join(self.fixed)}"
            raise self._error(f"operations is {shown(self.operations)}: {expected}")
        for stack, costs in self.operations.items():
            self._check_milliseconds(f"operations of the {stack}", costs)

    def _check_network(self) -> None:
        network = self.network
        if not isinstance(network, dict) or network.get("family") not in list(FAMILIES):
            expected = f"expected sizes, and a family: {' or '.join(FAMILIES)}"
            raise self._error(f"network is {shown(network)}: {expected}")
        expected = {"family", *sizes_of(FAMILIES[network["family"]])}
        if set(network) != expected:
            found = ", ".join(map(str, network))
            raise self._error(f"network has {found}: expected {', '.join(sorted(expected))}")
        for name, value in network.items():
            words = name in WORDS
            if not isinstance(value, str) if words else type(value) is not int or value < 1:
                expected = "a text" if words else "a positive integer"
                raise self._error(f"{name} is {shown(value)}: expected {expected}")

    def _check_milliseconds(
        self, name: str, values: Any, keys: Iterable[str] | None = None
    ) -> None:
        named = isinstance(values, dict) and (keys is None or set(values) == set(keys))
        if not named or not all(
            type(value) in (int, float) and abs(value) < MOST for value in values.values()
        ):
            of = f" of {', '.join(keys)}" if keys else ", by operation"
            raise self._error(f"{name} is {shown(values)}: expected milliseconds{of}")

    def _error(self, text: str) -> InputError:
        return InputError(f"latency table {self.path}: {text}")

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> LatencyTable:
        """Read a table; an :class:`InputError` names a file that is missing or is not a table."""
        path = os.fspath(path)
        try:
            record = json.loads(read_text(path, "latency table"))
        except FileNotFoundError:
            raise InputError(f"latency table {path}: there is no such file") from None
        except (ValueError, RecursionError) as error:
            if isinstance(error, InputError):
                raise
            raise InputError(f"latency table {path}: not JSON: {error}") from None
        names = {f.name for f in fields(cls)} - {"path"}
        if not isinstance(record, dict) or set(record) != names:
            found = ", ".join(map(str, record)) if isinstance(record, dict) else shown(record)
            raise InputError(
                f"latency table {path}: has {found}: expected {', '.join(sorted(names))}, as "
                "dartsformer-latency writes them"
            )
        return cls(**record, path=path)

    def to_json(self) -> str:
        """Write JSON, in a fixed order."""
        record = asdict(self)
        del record["path"]
        return json.dumps({"version": record.pop("version"), **record}, indent=1)

    def check(self, network: Mapping[str, int | str], vocabulary: int | None = None) -> None:
        """Raise an :class:`InputError` if the table is of another network than this one.

        Args:
            network: see :func:`network_of`.
            vocabulary: symbols of the target dictionary; ``None`` if unknown.
        """
        found = {**self.network, "vocabulary": self.vocabulary}
        wanted = {**network, **({} if vocabulary is None else {"vocabulary": vocabulary})}
        for name, value in wanted.items():
            if found.get(name) != value:
                option = name if name == "family" else flag(name)
                raise self._error(
                    f"is of {option} {found.get(name)}, but here it is {value}: measure a table of "
                    "the same sizes with dartsformer-latency"
                )

    def costs(self, stack: str, names: Iterable[str], block: int) -> list[float]:
        """Return the milliseconds that each operation adds as a node of the block.

        Args:
            stack: ``"encoder"`` or ``"decoder"``.
            names: of the operations.
            block: its number of layers; the stack repeats it, and with it the operation.

        Raises:
            InputError: an operation was not measured, or the block does not divide the stack.
        """
        known, layers = self.operations[stack], self.network[f"{stack}_layers"]
        if layers % block:
            raise self._error(
                f"is of {layers} {stack} layers, which must be a multiple of the block's {block}"
            )
        for name in names:
            if name not in known:
                raise self._error(
                    f"has no {name} in the {stack}, only {', '.join(known)}: measure it with "
                    f"{flag(stack)}-operations"
                )
        return [layers // block * known[name] for name in names]

    def predict(self, genotype: Genotype) -> float:
        """Return the milliseconds of the derived model: the fixed parts and the operations.

        Raises:
            InputError: the table is of another family, or of other sizes, or lacks an operation.
        """
        family = FAMILIES[genotype.family]
        network = {"family": genotype.family, "operation_norm": genotype.norm}
        if family.pooled:
            splits = [f"{stack}_splits" for stack in family.stacks]
            network |= {name: getattr(genotype, name) for name in (*splits, "pooling")}
        self.check(network)
        total = sum(self.fixed.values())
        for stack, block in genotype.blocks.items():
            nodes = len(block[0])
            searched = [k for k in range(nodes) if not family.is_fixed(stack, k, nodes)]
            chosen = [layer[k] for layer in block for k in searched]
            total += sum(self.costs(stack, chosen, len(block)))
        return total
