"""The coupling of the splits (Eq. 3) by ordinary autograd; :mod:`.backprop` inverts it (Eq. 4)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import reduce
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from .backprop import reconstructing_forward
from .seeding import draw_seed, preserved_generators, seed_generators

POOLINGS: dict[str, Callable[[Sequence[Tensor]], Tensor]] = {
    "max": lambda inputs: reduce(torch.maximum, inputs),
    "avg": lambda inputs: reduce(torch.add, inputs) / len(inputs),
}


def node_output(
    branches: Sequence[nn.Module],
    weights: Tensor | None,
    h: Tensor,
    context: NamedTuple,
    **state: Any,
) -> Tensor:
    """The sum of the branches' outputs, each times its weight (Eq. 1), in the dtype of ``h``.

    Args:
        branches: called as ``branch(h, context, **state)``.
        weights: one number a branch; ``None`` for one branch without a weight.
        h: `T × B × C`.
        context, state: handed to every branch.
    """
    if weights is None:
        (branch,) = branches
        return branch(h, context, **state).to(h.dtype)
    total = torch.zeros_like(h)
    for weight, branch in zip(weights, branches, strict=True):
        total = torch.addcmul(total, weight, branch(h, context, **state).to(h.dtype))
    return total


class ReversibleLayer(nn.Module):
    """One n-split reversible layer: ``Y_k = X_k + G_k(X_{i>k}, Y_{i<k})`` for k = 1..n (Eq. 3).

    ``G_k`` pools its n - 1 inputs elementwise to one and adds up the k-th list of branches, each
    times its weight (Eq. 5 with Eq. 1); a list of one branch has no weight. A branch is a module
    called as ``branch(h, context)`` and returns a tensor shaped like ``h``; ``context`` is a named
    tuple of tensors or ``None`` that all branches see.

    Args:
        nodes: n lists of branches, n >= 2.
        pooling: ``"max"`` or ``"avg"``.
    """

    def __init__(self, nodes: Iterable[Iterable[nn.Module]], pooling: str):
        super().__init__()
        self.nodes = nn.ModuleList(nn.ModuleList(branches) for branches in nodes)
        self.splits = len(self.nodes)
        if self.splits < 2:
            raise ValueError(f"a reversible layer needs at least 2 splits, got {self.splits}")
        self.pooling = pooling

    def pool(self, inputs: Sequence[Tensor]) -> Tensor:
        """Pool the n - 1 inputs of a ``G_k`` to one of the same shape; identity at n = 2.

        The result is contiguous, for kernels may round otherwise in other layouts.
        """
        return POOLINGS[self.pooling](inputs).contiguous()

    def residual(
        self,
        k: int,
        others: Sequence[Tensor],
        weights: Tensor | None,
        context: NamedTuple,
        seed: int | None,
        **state: Any,
    ) -> Tensor:
        """``G_k`` of the other splits, ``others[i]`` being ``Y_i`` below k and ``X_i`` above."""
        h = self.pool(others)
        if seed is not None:
            seed_generators(seed + k, h.device)
        row = None if weights is None or k >= len(weights) else weights[k]
        return node_output(self.nodes[k], row, h, context, **state)

    def forward(
        self,
        x: Tensor,
        weights: Tensor | None,
        context: NamedTuple,
        seed: int | None = None,
        **state: Any,
    ) -> Tensor:
        """Eq. 3, every intermediate tensor stored by autograd.

        Args:
            x: `T × B × d`, d a multiple of n.
            weights: `m × candidates`, the mixing weights of the first m <= n nodes, or ``None``.
            context: what the branches see besides their input.
            seed: of the random numbers, ``G_k`` drawing by ``seed + k``; ``None`` leaves the
                generators alone.
            state: keyword arguments handed to every branch.
        """
        splits = list(x.chunk(self.splits, dim=-1))
        for k in range(self.splits):
            others = splits[:k] + splits[k + 1 :]
            splits[k] = splits[k] + self.residual(k, others, weights, context, seed, **state)
        return torch.cat(splits, dim=-1)


class ReversibleStack(nn.Module):
    """Layers one above the other, in blocks that share their mixing weights.

    Args:
        layers: the layers from the bottom to the top.
        backprop: ``"reconstruct"`` stores the top output alone and backpropagates by Algorithm 1;
            ``"store"`` is ordinary autograd. Both compute the same, up to rounding.
    """

    BACKPROPS = ("reconstruct", "store")

    def __init__(self, layers: Iterable[ReversibleLayer], backprop: str):
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.backprop = backprop

    def forward(
        self,
        x: Tensor,
        weights: Tensor | None,
        context: NamedTuple,
        reconstruction: Tensor | None = None,
        **state: Any,
    ) -> Tensor:
        """Run the stack.

        The streams between the layers are kept in float32 at least: reconstruction from half
        precision would lose the gradient within a few layers.

        Args:
            x: `T × B × d`.
            weights: `s × m × candidates`, layer i taking row ``i % s``, or ``None``.
            reconstruction: a leaf shaped like ``x``, whose gradient will be ``x`` as reconstructed;
                none comes where activations are stored.
            context, state: as in :class:`ReversibleLayer`; with ``state`` all is stored.

        Returns:
            Tensor `T × B × d`, of ``x``'s dtype or float32 if that is wider.
        """
        x = x.to(torch.promote_types(x.dtype, torch.float32))
        rows = [None] * len(self.layers)
        if weights is not None:
            rows = [weights[i % len(weights)] for i in range(len(self.layers))]
        if state or not torch.is_grad_enabled():
            for layer, row in zip(self.layers, rows, strict=True):
                x = layer(x, row, context, **state)
            return x

        first = draw_seed()
        seeds = [first + i * layer.splits for i, layer in enumerate(self.layers)]
        with preserved_generators(x.device):
            if self.backprop == "reconstruct":
                return reconstructing_forward(self.layers, x, rows, context, seeds, reconstruction)
            for layer, row, seed in zip(self.layers, rows, seeds, strict=True):
                x = layer(x, row, context, seed)
            return x
