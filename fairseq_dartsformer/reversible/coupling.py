"""The coupling of the splits (Eq. 3) by ordinary autograd; :mod:`.backprop` inverts it (Eq. 4)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import reduce
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from .backprop import reconstructing_forward
from .branches import Mixture, Mixtures, Running, by_layer, node_output, running
from .seeding import draw_seed, preserved_generators, seed_generators

POOLINGS: dict[str, Callable[[Sequence[Tensor]], Tensor]] = {
    "max": lambda inputs: reduce(torch.maximum, inputs),
    "avg": lambda inputs: reduce(torch.add, inputs) / len(inputs),
}


class ReversibleLayer(nn.Module):
    """One n-split reversible layer: ``Y_k = X_k + G_k(X_{i>k}, Y_{i<k})`` for k = 1..n (Eq. 3).

    ``G_k`` pools its n - 1 inputs elementwise to one and adds up the k-th list of branches, each
    times its weight (Eq. 5 with Eq. 1), or runs one of them alone. A branch is a module called as
    ``branch(h, context)`` and returns a tensor shaped like ``h``; ``context`` is a named tuple of
    tensors or ``None`` that all branches see.

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

    def running(self, mixture: Mixture) -> list[Running]:
        """For every ``G_k`` the branches that run."""
        return list(running(self.nodes, mixture))

    def residual(
        self,
        k: int,
        others: Sequence[Tensor],
        branches: Running,
        context: NamedTuple,
        seed: int | None,
        **state: Any,
    ) -> Tensor:
        """``G_k`` of the other splits, ``others[i]`` being ``Y_i`` below k and ``X_i`` above."""
        h = self.pool(others)
        if seed is not None:
            seed_generators(seed + k, h.device)
        return node_output(branches, h, context, **state)

    def forward(
        self,
        x: Tensor,
        mixture: Mixture,
        context: NamedTuple,
        seed: int | None = None,
        **state: Any,
    ) -> Tensor:
        """Eq. 3, every intermediate tensor stored by autograd.

        Args:
            x: `T × B × d`, d a multiple of n.
            mixture: what runs of the first m <= n nodes: their mixing weights, `m × candidates`, or
                m indices; ``None`` for m = 0.
            context: what the branches see besides their input.
            seed: of the random numbers, ``G_k`` drawing by ``seed + k``; ``None`` leaves the
                generators alone.
            state: keyword arguments handed to every branch.
        """
        splits = list(x.chunk(self.splits, dim=-1))
        for k, branches in enumerate(self.running(mixture)):
            others = splits[:k] + splits[k + 1 :]
            splits[k] = splits[k] + self.residual(k, others, branches, context, seed, **state)
        return torch.cat(splits, dim=-1)


class ReversibleStack(nn.Module):
    """Layers one above the other, in blocks that share their mixtures.

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
        mixtures: Mixtures,
        context: NamedTuple,
        reconstruction: Tensor | None = None,
        **state: Any,
    ) -> Tensor:
        """Run the stack.

        The streams between the layers are kept in float32 at least, and in float64 where they are
        reconstructed: from half precision, the gradient would be lost within a few layers.

        Args:
            x: `T × B × d`.
            mixtures: `s × m × candidates` weights or `s × m` indices, layer i taking row ``i % s``;
                or ``None``.
            reconstruction: a leaf shaped like ``x``, whose gradient will be ``x`` as reconstructed;
                none comes where activations are stored.
            context, state: as in :class:`ReversibleLayer`; with ``state`` all is stored.

        Returns:
            Tensor `T × B × d`, of ``x``'s dtype or float32 if that is wider.
        """
        x = x.to(torch.promote_types(x.dtype, torch.float32))
        rows = by_layer(mixtures, len(self.layers))
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
