"""`MixedOp`: a search node, the weighted sum of its candidate operations (Eq. 1)."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

# What runs of a node: its mixing weights, one a candidate; the index of the one candidate that
# runs, unweighted; or None for a node that has one operation.
Mixture = Tensor | int | None


class MixedOp(nn.ModuleList):
    """The candidates of one node, or the single operation of a node that is not searched.

    An operation is a module called as ``operation(h, context, **state)`` that returns a tensor
    shaped like ``h``.
    """

    def active(self, mixture: Mixture) -> list[tuple[nn.Module, Tensor | None]]:
        """The operations that run, each with its weight; the weight is ``None`` for one alone."""
        if mixture is None:
            (operation,) = self
            return [(operation, None)]
        if isinstance(mixture, Tensor):
            return list(zip(self, mixture, strict=True))
        return [(self[mixture], None)]

    def forward(self, h: Tensor, mixture: Mixture, context: NamedTuple, **state: Any) -> Tensor:
        """`sum_o w_o · o(h)` (Eq. 1), in the dtype of ``h``.

        Args:
            h: `T × B × C`.
            mixture: what runs.
            context, state: passed to every operation.
        """
        total = None
        for operation, weight in self.active(mixture):
            out = operation(h, context, **state).to(h.dtype)
            if weight is None:
                return out
            total = torch.addcmul(torch.zeros_like(h) if total is None else total, weight, out)
        return total
