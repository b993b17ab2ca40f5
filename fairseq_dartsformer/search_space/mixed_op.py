"""`MixedOp`: a search node, the weighted sum of its candidate operations (Eq. 1)."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ..reversible.coupling import Row


class MixedOp(nn.ModuleList):
    """The candidate operations of one node, or the single operation of a node that is not searched.

    An operation is a module, called as ``operation(h, context, **state)``, that returns a tensor
    shaped like ``h``.
    """

    def active(self, row: Row) -> list[tuple[nn.Module, Tensor | None]]:
        """Return the operations that run, each with its weight; a single one has no weight."""
        if row is None:
            (operation,) = self
            return [(operation, None)]
        if isinstance(row, Tensor):
            return list(zip(self, row, strict=True))
        return [(self[row], None)]

    def forward(self, h: Tensor, row: Row, context: NamedTuple, **state: Any) -> Tensor:
        """`sum_o w_o · o(h)` (Eq. 1), in the dtype of ``h``.

        Args:
            h: `T × B × C`.
            row: what runs.
            context, state: passed to every operation.

        Returns:
            Tensor `T × B × C`.
        """
        total = None
        for operation, weight in self.active(row):
            out = operation(h, context, **state).to(h.dtype)
            if weight is None:
                return out
            total = torch.addcmul(torch.zeros_like(h) if total is None else total, weight, out)
        return total
