"""The coupling of the splits (Eq. 3) by ordinary autograd; :mod:`.backprop` inverts it (Eq. 4)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from .seeding import seed_generators

POOLINGS: dict[str, Callable[[Sequence[Tensor]], Tensor]] = {
    "max": lambda inputs: reduce(torch.maximum, inputs),
    "avg": lambda inputs: reduce(torch.add, inputs) / len(inputs),
}


@dataclass(frozen=True)
class Partial:
    """Mixing weights of nodes in which only some candidates run; the others cost nothing.

    With one active candidate of weight 1, a node computes that candidate alone, and the weight's
    gradient is the scalar product of the node's gradient and the candidate's output.

    Attributes:
        weights: `… × candidates`: of a block, a layer or a node. Those of candidates that do not
            run get the gradient zero.
        active: for every node the indices of the candidates that run, at least one.
    """

    weights: Tensor
    active: Sequence[Any]

    def __len__(self) -> int:
        return len(self.active)

    def __getitem__(self, i: int) -> Partial:
        """The layer i of a block, or the node i of a layer."""
        return Partial(self.weights[i], self.active[i])


# What runs in one node: mixing weights of all its candidates or of some, or the index of one that
# runs without a weight; ``None`` for a node that has a single operation.
Row = Tensor | Partial | int | None
# What runs in the first m nodes of a layer: mixing weights `m × candidates`, or m indices of
# candidates. ``None`` means m = 0.
Mixture = Tensor | Partial | Sequence[int] | None
# The same for the s layers of a block: `s × m × candidates` weights, or `s × m` indices.
Mixtures = Tensor | Partial | Sequence[Sequence[int]] | None


def take_apart(mixture: Mixture) -> tuple[Tensor | None, Any]:
    """Return the mixing weights, and the indices of what runs; either may be ``None``."""
    if isinstance(mixture, Partial):
        return mixture.weights, mixture.active
    return (mixture, None) if isinstance(mixture, Tensor) else (None, mixture)


def put_together(weights: Tensor | None, indices: Any) -> Mixture:
    """Undo :func:`take_apart`."""
    if weights is None or indices is None:
        return indices if weights is None else weights
    return Partial(weights, indices)


class Node(Protocol):
    """A module that computes one operation, or a weighted sum of operations."""

    def active(self, row: Row) -> Mapping[int, nn.Module]:
        """Return the operations that run, by their index among the row's weights.

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


class ReversibleLayer(nn.Module):
    """One n-split reversible layer: ``Y_k = X_k + G_k(X_{i>k}, Y_{i<k})`` for k = 1..n (Eq. 3).

    ``G_k`` pools its n - 1 inputs elementwise and applies the k-th node to the result (Eq. 5).

    Args:
        nodes: n >= 2 modules with the interface of :class:`Node`.
        pooling: ``"max"`` or ``"avg"``.

    Raises:
        ValueError: there are fewer than 2 nodes.
    """

    def __init__(self, nodes: Iterable[Node], pooling: str):
        super().__init__()
        self.nodes = nn.ModuleList(nodes)
        self.splits = len(self.nodes)
        if self.splits < 2:
            raise ValueError(f"a reversible layer needs at least 2 splits, got {self.splits}")
        self.pooling = pooling

    def pool(self, inputs: Sequence[Tensor]) -> Tensor:
        """Pool the n - 1 inputs of a ``G_k`` to one of the same shape; the identity for n = 2.

        The result is contiguous: kernels may round differently in other layouts.
        """
        return POOLINGS[self.pooling](inputs).contiguous()

    def residual(
        self,
        k: int,
        others: Sequence[Tensor],
        row: Row,
        context: NamedTuple,
        seed: int | None,
        **state,
    ) -> Tensor:
        """Return ``G_k`` of the other splits: ``Y_i`` for i < k and ``X_i`` for i > k."""
        h = self.pool(others)
        if seed is not None:
            seed_generators(seed + k, h.device)
        return self.nodes[k](h, row, context, **state)

    def forward(
        self,
        x: Tensor,
        mixture: Mixture,
        context: NamedTuple,
        seed: int | None = None,
        **state: Any,
    ) -> Tensor:
        """Compute Eq. 3; autograd stores every intermediate tensor.

        Args:
            x: `T × B × d`, where n divides d.
            mixture: what runs in the first m <= n nodes, see :data:`Mixture`.
            context: what the operations see besides their input.
            seed: if given, ``G_k`` draws its random numbers from generators seeded with
                ``seed + k``.
            state: keyword arguments for every operation.

        Returns:
            Tensor `T × B × d`.
        """
        splits = list(x.chunk(self.splits, dim=-1))
        for k, row in enumerate(by_node(mixture, self.splits)):
            others = splits[:k] + splits[k + 1 :]
            splits[k] = splits[k] + self.residual(k, others, row, context, seed, **state)
        return torch.cat(splits, dim=-1)
