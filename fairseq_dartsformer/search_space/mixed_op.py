"""`MixedOp`: a search node, the weighted sum of its candidate operations (Eq. 1)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ..reversible.coupling import Row, take_apart


class MixedOp(nn.ModuleList):
    """The candidate operations of one node, or the single operation of a node that is not searched.

    An operation is a module, called as ``operation(h, context, **state)``, that returns a tensor
    shaped like ``h``.

    Args:
        operations: the modules.
        names: theirs, if they have any.
    """

    def __init__(self, operations: Iterable[nn.Module] = (), names: Sequence[str] = ()):
        super().__init__(operations)
        self.names = tuple(names)

    def active(self, row: Row) -> dict[int, nn.Module]:
        """Return the operations that run, by their index among the candidates.

        Raises:
            ValueError: the row has weights for more or fewer candidates.
        """
        if row is None:
            (operation,) = self
            return {0: operation}
        weights, indices = take_apart(row)
        if weights is not None and len(weights) != len(self):
            raise ValueError(f"{len(weights)} mixing weights for {len(self)} candidates")
        if indices is None:
            return dict(enumerate(self))
        return {o: self[o] for o in ([indices] if isinstance(indices, int) else indices)}

    def forward(self, h: Tensor, row: Row, context: NamedTuple, **state: Any) -> Tensor:
        """`sum_o w_o · o(h)` (Eq. 1) over the active operations, in the dtype of ``h``.

        Args:
            h: `T × B × C`.
            row: what runs.
            context, state: passed to every operation.

        Returns:
            Tensor `T × B × C`.
        """
        weights, _ = take_apart(row)
        total = None
        for o, operation in self.active(row).items():
            out = operation(h, context, **state).to(h.dtype)
            if weights is None:
                return out
            start = torch.zeros_like(h) if total is None else total
            total = torch.addcmul(start, weights[o], out)
        return total
