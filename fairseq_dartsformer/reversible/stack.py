"""Stacks of layers, run with or without stored activations."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from .backprop import reconstructing_forward
from .coupling import Mixtures, ReversibleLayer, by_layer
from .seeding import draw_seed, preserved_generators

BACKPROPS = ("reconstruct", "store")


class Stack(nn.Module):
    """Layers in blocks that share their mixtures; autograd stores all activations.

    Args:
        layers: the layers from bottom to top, called as ``layer(x, mixture, context, **state)``.
    """

    def __init__(self, layers: Iterable[nn.Module]):
        super().__init__()
        self.layers = nn.ModuleList(layers)

    def forward(self, x: Tensor, mixtures: Mixtures, context: NamedTuple, **state: Any) -> Tensor:
        """Run the layers.

        Args:
            x: `T × B × d`; a stream in half precision loses the gradient within a few layers.
            mixtures: `s × m × candidates` weights or `s × m` indices, of which layer i takes row
                ``i % s``; or ``None``.
            context, state: passed to every layer.

        Returns:
            Tensor `T × B × d`, in the dtype of ``x``.
        """
        for layer, mixture in zip(self.layers, by_layer(mixtures, len(self.layers)), strict=True):
            x = layer(x, mixture, context, **state)
        return x


class ReversibleStack(Stack):
    """A stack of reversible layers.

    Args:
        layers: the layers from bottom to top.
        backprop: ``"reconstruct"`` stores only the top output and backpropagates by Algorithm 1;
            ``"store"`` is ordinary autograd. Both compute the same, up to rounding.
        seeded: whether ``"store"`` draws the dropout masks that ``"reconstruct"`` draws from the
            same state of the generators, at the cost of seeding them at every node.
    """

    def __init__(self, layers: Iterable[ReversibleLayer], backprop: str, seeded: bool = True):
        super().__init__(layers)
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
        """Run the layers; arguments and result as :meth:`Stack.forward`.

        A seeded stack in training mode draws the same masks with and without gradients.

        Args:
            reconstruction: a leaf shaped like ``x`` that receives the reconstructed ``x`` as its
                gradient; no gradient where activations are stored.
            state: if given, activations are stored.
        """
        reconstruct = self.backprop == "reconstruct" and torch.is_grad_enabled() and not state
        if not (reconstruct or (self.seeded and self.training)):
            return super().forward(x, mixtures, context, **state)
        rows = by_layer(mixtures, len(self.layers))
        first = draw_seed()
        seeds = [first + i * layer.splits for i, layer in enumerate(self.layers)]
        with preserved_generators(x.device):
            if reconstruct:
                return reconstructing_forward(self.layers, x, rows, context, seeds, reconstruction)
            for layer, row, seed in zip(self.layers, rows, seeds, strict=True):
                x = layer(x, row, context, seed, **state)
            return x
