"""Alpha over time: the mixing weights of every search node at every checkpoint of a search."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from itertools import product
from reprlib import repr as shown

import torch

from ..errors import InputError
from ..operations import OPERATIONS_BY_STACK
from .alpha import entropy
from .families import FAMILIES, Family

COLUMNS = ("updates", "stack", "layer", "split", "operation", "weight")


@dataclass(frozen=True)
class NodeHistory:
    """One search node at every checkpoint.

    Attributes:
        stack: ``"encoder"`` or ``"decoder"``.
        layer, place: position of the node in the genotype, counted from 0.
        weights: for each operation, its mixing weight at each checkpoint.
        chosen: for each checkpoint, the operation with the largest alpha.
    """

    stack: str
    layer: int
    place: int
    weights: dict[str, list[float]]
    chosen: list[str]

    @property
    def entropies(self) -> list[float]:
        """Entropy of the mixing weights at each checkpoint, in nats."""
        return entropy(torch.tensor([*self.weights.values()]).T).tolist()

    @property
    def margins(self) -> list[float]:
        """Largest weight minus the second largest at each checkpoint; 1 with one candidate."""
        at_each = (sorted(w, reverse=True) for w in zip(*self.weights.values(), strict=True))
        return [first - (rest[0] if rest else 0.0) for first, *rest in at_each]

    @property
    def last_change(self) -> int | None:
        """Index of the checkpoint since which the choice is the last one; ``None`` if it never
        changed."""
        others = [i for i, chosen in enumerate(self.chosen) if chosen != self.chosen[-1]]
        return others[-1] + 1 if others else None


@dataclass(frozen=True)
class AlphaHistory:
    """All search nodes at every checkpoint of a search.

    Attributes:
        updates: number of updates of each checkpoint, ascending.
        nodes: in the order of the network.
        family: of the supernet.
    """

    updates: list[int]
    nodes: list[NodeHistory]
    family: Family

    def name(self, node: NodeHistory) -> str:
        """Name of a node for users, counted from 1."""
        return f"{node.stack} layer {node.layer + 1} {self.family.node} {node.place + 1}"

    def to_tsv(self) -> str:
        """A table with one row for each checkpoint, node and operation; a node's chosen operation
        comes first, the others follow by descending weight."""
        table = io.StringIO()
        writer = csv.writer(table, "excel-tab", lineterminator="\n")
        writer.writerow(_columns(self.family))
        for i, updates in enumerate(self.updates):
            for node in self.nodes:
                weights = {name: times[i] for name, times in node.weights.items()}
                # The chosen one is first even where weights are equal.
                for name in sorted(weights, key=lambda o: (o != node.chosen[i], -weights[o])):
                    place = (node.stack, node.layer + 1, node.place + 1)
                    writer.writerow([updates, *place, name, f"{weights[name]:.5f}"])
        return table.getvalue()

    @classmethod
    def load(cls, path: str) -> AlphaHistory:
        """Read a table that :meth:`to_tsv` made; raise an :class:`InputError` if the file cannot be
        read or is no such table."""
        # By node, update and operation; the first operation of a node is the chosen one.
        table: dict[tuple, dict[int, dict[str, float]]] = {}
        try:
            with open(path, newline="", encoding="utf-8") as file:
                rows = csv.reader(file, "excel-tab")
                header = next(rows, [])
                family = next((f for f in FAMILIES.values() if _columns(f) == header), None)
                if family is None:
                    raise InputError(f"{path}: expected a table with columns {' '.join(COLUMNS)}")
                for row in rows:
                    _add_row(row, table, f"{path}, line {rows.line_num}")
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            reason = getattr(error, "strerror", None) or "it is not a table"
            raise InputError(f"{path}: cannot be read: {reason}") from None
        updates = sorted({update for times in table.values() for update in times})
        if not updates:
            raise InputError(f"{path}: has no rows")
        nodes = []
        for (stack, layer, place), times in table.items():
            names = [o for o in OPERATIONS_BY_STACK[stack] if any(o in w for w in times.values())]
            for update, name in product(updates, names):
                if name not in times.get(update, {}):
                    row = dict(zip(header, (update, stack, layer, place, name), strict=False))
                    raise InputError(f"{path}: has no row for {shown(row)}")
            weights = {name: [times[update][name] for update in updates] for name in names}
            chosen = [next(iter(times[update])) for update in updates]
            nodes.append(NodeHistory(stack, layer - 1, place - 1, weights, chosen))
        return cls(updates, nodes, family)


def _columns(family: Family) -> list[str]:
    return [family.node if name == "split" else name for name in COLUMNS]


def _add_row(row: list[str], table: dict, where: str) -> None:
    """Add a row to the table by node, update and operation; raise an :class:`InputError` if
    ``to_tsv`` does not write such a row, or if it repeats another."""
    try:
        updates, stack, layer, place, operation, weight = row
        node, value = (stack, int(layer), int(place)), float(weight)
        weights = table.setdefault(node, {}).setdefault(int(updates), {})
        if operation not in OPERATIONS_BY_STACK[stack] or min(node[1:]) < 1 or not 0 <= value <= 1:
            raise ValueError
    except (ValueError, KeyError):
        raise InputError(
            f"{where}: is {shown(row)}: expected a number of updates, encoder or decoder, layer "
            "and node counted from 1, one of that stack's operations, and a weight from 0 to 1"
        ) from None
    if operation in weights:
        raise InputError(f"{where}: repeats {shown(row)}")
    weights[operation] = value
