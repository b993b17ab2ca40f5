"""Alpha over time: the mixing weights of every search node at every checkpoint of a search."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from reprlib import repr as shown
from typing import Any

from ..errors import InputError
from ..operations import OPERATIONS_BY_STACK, describe_operations
from .families import FAMILIES, Family

COLUMNS = ("updates", "stack", "layer", "split", "operation", "weight")


@dataclass(frozen=True)
class NodeHistory:
    """One search node over time.

    Attributes:
        stack: ``"encoder"`` or ``"decoder"``.
        layer, place: of the node in the genotype, counted from 0.
        weights: by operation, its mixing weight at each checkpoint.
        chosen: the operation of largest alpha at each checkpoint.
    """

    stack: str
    layer: int
    place: int
    weights: dict[str, list[float]]
    chosen: list[str]

    @property
    def entropies(self) -> list[float]:
        """Of the mixing weights at each checkpoint, in nats."""
        at_each = zip(*self.weights.values(), strict=True)
        return [-sum(w * math.log(w) for w in weights if w > 0) for weights in at_each]

    @property
    def margins(self) -> list[float]:
        """By how much the first weight exceeds the second, at each checkpoint; 1 if there is one
        candidate."""
        at_each = (sorted(w, reverse=True) for w in zip(*self.weights.values(), strict=True))
        return [first - (rest[0] if rest else 0.0) for first, *rest in at_each]

    @property
    def last_change(self) -> int | None:
        """Which checkpoint was the first to have the last choice; ``None`` if it is the first."""
        count = len(self.chosen)
        while count > 1 and self.chosen[count - 2] == self.chosen[-1]:
            count -= 1
        return count - 1 or None


@dataclass(frozen=True)
class AlphaHistory:
    """All search nodes, in the order of the network, at checkpoints in the order of updates."""

    updates: list[int]
    nodes: list[NodeHistory]
    family: Family

    def name(self, node: NodeHistory) -> str:
        """A node as users read it, counted from 1."""
        return f"{node.stack} layer {node.layer + 1} {self.family.node} {node.place + 1}"

    def to_tsv(self) -> str:
        """One line an operation, node and checkpoint under a line of names; of each node's
        operations the heaviest first."""
        lines = ["\t".join(self._columns(self.family))]
        for i, updates in enumerate(self.updates):
            for node in self.nodes:
                place = (updates, node.stack, node.layer + 1, node.place + 1)
                # Stable, and the chosen one first even where weights are equal.
                order = sorted(
                    node.weights, key=lambda o: (o != node.chosen[i], -node.weights[o][i])
                )
                for name in order:
                    weight = f"{node.weights[name][i]:.5f}"
                    lines.append("\t".join(map(str, (*place, name, weight))))
        return "\n".join(lines) + "\n"

    @staticmethod
    def _columns(family: Family) -> tuple[str, ...]:
        return tuple(family.node if name == "split" else name for name in COLUMNS)

    @classmethod
    def load(cls, path: str) -> AlphaHistory:
        """From a file that :meth:`to_tsv` wrote.

        Raises:
            InputError: it cannot be read, or is no such table.
        """
        try:
            return cls.from_tsv(Path(path).read_text(encoding="utf-8"), path)
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "is not text"
            raise InputError(f"{path}: cannot be read: {reason}") from None

    @classmethod
    def from_tsv(cls, text: str, where: str) -> AlphaHistory:
        """From what :meth:`to_tsv` wrote; ``where`` says in an error where it comes from.

        Raises:
            InputError: it is no such table.
        """
        header, *rows = [line.split("\t") for line in text.splitlines()] or [[]]
        families = [f for f in FAMILIES.values() if cls._columns(f) == tuple(header)]
        if not families or not rows:
            raise InputError(f"{where}: expected lines under the names {' '.join(COLUMNS)}")
        columns = cls._columns(families[0])
        # By node, update and operation; the first operation of a node is the chosen one.
        table: dict[tuple, dict[int, dict[str, float]]] = {}
        for number, row in enumerate(rows, start=2):
            try:
                update, *node, operation, weight = _read_row(row, columns)
                weights = table.setdefault(tuple(node), {}).setdefault(update, {})
                if operation in weights:
                    raise InputError("stands there twice")
            except InputError as error:
                raise InputError(f"{where}, line {number}: {error}") from None
            weights[operation] = weight
        updates = sorted({update for times in table.values() for update in times})
        nodes = []
        for (stack, layer, place), times in table.items():
            met = set().union(*times.values())
            names = [name for name in OPERATIONS_BY_STACK[stack] if name in met]
            for update, name in product(updates, names):
                if name not in times.get(update, ()):
                    missing = zip(columns, (update, stack, layer, place, name), strict=False)
                    described = ", ".join(f"{column} {value}" for column, value in missing)
                    raise InputError(f"{where}: has no line of {described}")
            over_time = {name: [times[update][name] for update in updates] for name in names}
            chosen = [next(iter(times[update])) for update in updates]
            nodes.append(NodeHistory(stack, layer - 1, place - 1, over_time, chosen))
        return cls(updates, nodes, families[0])


def _read_row(row: Sequence[str], columns: Sequence[str]) -> list[Any]:
    """The values of a line.

    Raises:
        InputError: names the column at fault.
    """
    if len(row) != len(columns):
        raise InputError(f"has {len(row)} columns between tabs, not {len(columns)}")
    updates, stack, layer, place, operation, weight = row
    names = OPERATIONS_BY_STACK.get(stack, ())
    read = (
        (_number(updates, int, 0), "a whole number"),
        (stack if names else None, " or ".join(OPERATIONS_BY_STACK)),
        (_number(layer, int, 1), "a whole number from 1"),
        (_number(place, int, 1), "a whole number from 1"),
        (operation if operation in names else None, names and describe_operations(stack)),
        (_number(weight, float, 0, 1), "a number from 0 to 1"),
    )
    for name, text, (value, expected) in zip(columns, row, read, strict=True):
        if value is None:
            raise InputError(f"{name} is {shown(text)}: expected {expected}")
    return [value for value, _ in read]


def _number(text: str, read: type, least: float, most: float = math.inf) -> float | None:
    """What ``text`` says, or ``None`` if that is no number within these bounds."""
    try:
        value = read(text)
    except ValueError:
        return None
    return value if least <= value <= most else None
