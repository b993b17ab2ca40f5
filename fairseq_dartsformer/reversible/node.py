"""What a reversible layer asks of the function ``G_k`` of a split, apart from its pooling."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

from torch import Tensor, nn

# For the first m nodes of a layer what runs of each: mixing weights, `m × candidates`, or m
# indices. The nodes after them have one operation; None stands for m = 0.
Mixture = Tensor | Sequence[int] | None
# The same for the s layers of a block: `s × m × candidates` weights or `s × m` indices.
Mixtures = Tensor | Sequence[Sequence[int]] | None


class Node(Protocol):
    """A weighted sum of operations, or one of them; a module."""

    def active(self, mixture: Tensor | int | None) -> Sequence[tuple[nn.Module, Tensor | None]]:
        """The operations that run, each with its weight, ``None`` for one that runs alone.

        The backward pass recomputes and differentiates them one at a time.
        """

    def __call__(
        self, h: Tensor, mixture: Tensor | int | None, context: NamedTuple, **state: Any
    ) -> Tensor:
        """Their sum, shaped like ``h``, `T × B × C`."""


def by_layer(mixtures: Mixtures, layers: int) -> list[Mixture]:
    """The mixture of every layer of a stack; layer i takes row ``i % s``."""
    return [None if mixtures is None else mixtures[i % len(mixtures)] for i in range(layers)]


def by_node(mixture: Mixture, nodes: int) -> list[Tensor | int | None]:
    """What runs of every node of a layer; ``None`` for the nodes after the first m."""
    given = [] if mixture is None else list(mixture)
    return given + [None] * (nodes - len(given))
