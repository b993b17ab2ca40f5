"""Layers whose nodes follow one another, activations stored: DARTS on a Transformer."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ..reversible.node import Mixture, Mixtures, by_layer
from ..search_space.mixed_op import MixedOp


class SequentialLayer(nn.Module):
    """Each node reads the output of the node before it (Section 2.1).

    The residual connections are part of the operations.

    Args:
        nodes: the nodes in order.
        fixed: index of the node that is not searched, if there is one.
    """

    def __init__(self, nodes: Iterable[MixedOp], fixed: int | None = None):
        super().__init__()
        self.nodes = nn.ModuleList(nodes)
        self.fixed = fixed

    def forward(self, x: Tensor, mixture: Mixture, context: NamedTuple, **state: Any) -> Tensor:
        """Run the nodes.

        Args:
            x: `T × B × d`.
            mixture: what runs of the m searched nodes, in order: mixing weights, `m × candidates`,
                or m indices; or ``None``.
            context, state: passed to every operation.
        """
        searched = iter([None] * len(self.nodes) if mixture is None else mixture)
        for k, node in enumerate(self.nodes):
            x = node(x, None if k == self.fixed else next(searched), context, **state)
        return x


class SequentialStack(nn.Module):
    """Layers in blocks that share their mixtures."""

    def __init__(self, layers: Iterable[SequentialLayer]):
        super().__init__()
        self.layers = nn.ModuleList(layers)

    def forward(self, x: Tensor, mixtures: Mixtures, context: NamedTuple, **state: Any) -> Tensor:
        """Run the stack on `T × B × d`, in float32 at least between the nodes.

        Args:
            x: `T × B × d`.
            mixtures: `s × m × candidates` weights or `s × m` indices; layer i takes row ``i % s``;
                or ``None``.
            context, state: passed to every operation.
        """
        x = x.to(torch.promote_types(x.dtype, torch.float32))
        for layer, mixture in zip(self.layers, by_layer(mixtures, len(self.layers)), strict=True):
            x = layer(x, mixture, context, **state)
        return x
