"""The interface of a node, the part of ``G_k`` after the pooling."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

from torch import Tensor, nn

# What runs in one node: mixing weights of all its candidates, or the index of one of them; ``None``
# for a node that has a single operation.
Row = Tensor | int | None
# What runs in the first m nodes of a layer: mixing weights `m × candidates`, or m indices of
# candidates. ``None`` means m = 0.
Mixture = Tensor | Sequence[int] | None
# The same for the s layers of a block: `s × m × candidates` weights, or `s × m` indices.
Mixtures = Tensor | Sequence[Sequence[int]] | None


class Node(Protocol):
    """A module that computes one operation, or a weighted sum of operations."""

    def active(self, row: Row) -> Sequence[tuple[nn.Module, Tensor | None]]:
        """Return the operations that run, each with its weight; a single one has no weight.

        The backward pass recomputes and differentiates them one at a time.
        """

    def __call__(self, h: Tensor, row: Row, context: NamedTuple, **state: Any) -> Tensor:
        """Return the sum of the active operations of ``h``, `T × B × C`, in the same shape."""


def by_layer(mixtures: Mixtures, layers: int) -> list[Mixture]:
    """Return the mixture of each layer of a stack: layer i takes row ``i % s``."""
    return [None if mixtures is None else mixtures[i % len(mixtures)] for i in range(layers)]


def by_node(mixture: Mixture, nodes: int) -> list[Row]:
    """Return the row of each node of a layer; ``None`` for the nodes after the first m."""
    given = [] if mixture is None else list(mixture)
    return given + [None] * (nodes - len(given))
