"""Layers whose nodes follow one another, activations stored: DARTS on a Transformer."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ..reversible import Mixture, Mixtures, by_layer, node_output, running


class SequentialLayer(nn.Module):
    """A node reads the output of the one before it (Section 2.1); residuals are the branches' own.

    Args:
        nodes: for each node its branches, as :class:`ReversibleLayer` takes them.
        fixed: which node takes no mixing weights, if any.
    """

    def __init__(self, nodes: Iterable[Iterable[nn.Module]], fixed: int | None = None):
        super().__init__()
        self.nodes = nn.ModuleList(nn.ModuleList(branches) for branches in nodes)
        self.fixed = fixed

    def forward(self, x: Tensor, mixture: Mixture, context: NamedTuple, **state: Any) -> Tensor:
        """Run the nodes.

        Args:
            x: `T × B × d`.
            mixture: what runs of the m nodes but the fixed one, in order: their mixing weights,
                `m × candidates`, or m indices; or ``None``.
            context, state: handed to every branch.
        """
        searched = [branches for k, branches in enumerate(self.nodes) if k != self.fixed]
        nodes = list(running(searched, mixture))
        if self.fixed is not None:
            nodes[self.fixed : self.fixed] = running([self.nodes[self.fixed]], None)
        for branches in nodes:
            x = node_output(branches, x, context, **state)
        return x


class SequentialStack(nn.Module):
    """Layers one above the other, in blocks that share their mixtures."""

    def __init__(self, layers: Iterable[SequentialLayer]):
        super().__init__()
        self.layers = nn.ModuleList(layers)

    def forward(self, x: Tensor, mixtures: Mixtures, context: NamedTuple, **state: Any) -> Tensor:
        """Run the stack upon `T × B × d`, in float32 at least between the nodes.

        Args:
            x: `T × B × d`.
            mixtures: `s × m × candidates` weights or `s × m` indices, layer i taking row ``i % s``;
                or ``None``.
            context, state: handed to every branch.
        """
        x = x.to(torch.promote_types(x.dtype, torch.float32))
        for layer, mixture in zip(self.layers, by_layer(mixtures, len(self.layers)), strict=True):
            x = layer(x, mixture, context, **state)
        return x
