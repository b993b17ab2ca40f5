"""Layers whose nodes follow one another, activations stored: DARTS on a Transformer."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ..reversible import node_output


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

    def forward(
        self, x: Tensor, weights: Tensor | None, context: NamedTuple, **state: Any
    ) -> Tensor:
        """Run the nodes.

        Args:
            x: `T × B × d`.
            weights: `m × candidates` for the nodes but the fixed one, in order, or ``None``.
            context, state: handed to every branch.
        """
        rows = iter([None] * len(self.nodes) if weights is None else weights)
        for k, branches in enumerate(self.nodes):
            row = None if k == self.fixed else next(rows)
            x = node_output(branches, row, x, context, **state)
        return x


class SequentialStack(nn.Module):
    """Layers one above the other, in blocks that share their mixing weights."""

    def __init__(self, layers: Iterable[SequentialLayer]):
        super().__init__()
        self.layers = nn.ModuleList(layers)

    def forward(
        self, x: Tensor, weights: Tensor | None, context: NamedTuple, **state: Any
    ) -> Tensor:
        """Run the stack upon `T × B × d`, in float32 at least between the nodes.

        Args:
            x: `T × B × d`.
            weights: `s × m × candidates`, layer i taking row ``i % s``, or ``None``.
            context, state: handed to every branch.
        """
        x = x.to(torch.promote_types(x.dtype, torch.float32))
        for i, layer in enumerate(self.layers):
            row = None if weights is None else weights[i % len(weights)]
            x = layer(x, row, context, **state)
        return x
