"""A stack of reversible layers, run with or without stored activations."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from .allocator import return_freed_tensors
from .backprop import reconstructing_forward
from .coupling import ReversibleLayer
from .node import Mixtures, by_layer
from .seeding import draw_seed, preserved_generators

BACKPROPS = ("reconstruct", "store")


class ReversibleStack(nn.Module):
    """Reversible layers in blocks that share their mixtures.

    Args:
        layers: the layers from the bottom to the top.
        backprop: ``"reconstruct"`` stores only the top output and backpropagates by Algorithm 1;
            ``"store"`` is ordinary autograd. Both compute the same, up to rounding.
        seeded: whether ``"store"`` draws the dropout masks that ``"reconstruct"`` draws from the
            same generator state, which takes a seeding at every node.
    """

    def __init__(self, layers: Iterable[ReversibleLayer], backprop: str, seeded: bool = True):
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.backprop = backprop
        self.seeded = seeded or backprop == "reconstruct"

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
        reconstructed: in half precision the gradient would be lost within a few layers. In
        training mode the masks are the same whether gradients are computed or not.

        Args:
            x: `T × B × d`.
            mixtures: `s × m × candidates` weights or `s × m` indices; layer i takes row ``i % s``;
                or ``None``.
            context: as :class:`ReversibleLayer` takes it.
            reconstruction: a leaf shaped like ``x`` whose gradient will be the reconstructed
                ``x``; it gets none where activations are stored.
            state: as :class:`ReversibleLayer` takes it; with ``state`` activations are stored.

        Returns:
            Tensor `T × B × d`, of ``x``'s dtype or float32 if that is wider.
        """
        x = x.to(torch.promote_types(x.dtype, torch.float32))
        rows = by_layer(mixtures, len(self.layers))
        reconstruct = self.backprop == "reconstruct" and torch.is_grad_enabled() and not state
        if not (reconstruct or (self.seeded and self.training)):
            for layer, row in zip(self.layers, rows, strict=True):
                x = layer(x, row, context, **state)
            return x

        first = draw_seed()
        seeds = [first + i * layer.splits for i, layer in enumerate(self.layers)]
        with preserved_generators(x.device):
            if reconstruct:
                if x.device.type == "cpu":
                    return_freed_tensors()
                return reconstructing_forward(self.layers, x, rows, context, seeds, reconstruction)
            for layer, row, seed in zip(self.layers, rows, seeds, strict=True):
                x = layer(x, row, context, seed, **state)
            return x
