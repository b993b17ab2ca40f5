"""Pruning: candidates leave the supernet while it trains.

A pruned candidate neither runs nor moves; alpha keeps its shape, and the supernet's checkpoints
hold the mask of what remains.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from ..errors import InputError


def check_share(value: float | None) -> float:
    """Read ``--prune-keep``; raise an :class:`InputError` if it is not in (0, 1)."""
    share = 0.5 if value is None else value
    if not 0 < share < 1:
        raise InputError(f"--prune-keep is {share}, it must lie between 0 and 1")
    return share


def keep_best(coder: nn.Module, share: float) -> None:
    """Keep in every node the given share of its candidates, rounded up, by alpha; what has been
    pruned before does not return."""
    scores = coder.alpha.detach().masked_fill(~coder.remaining, -math.inf)
    count = math.ceil(coder.alpha.size(-1) * share)
    coder.keep((ranks(scores) < count) & coder.remaining)


def ranks(scores: Tensor) -> Tensor:
    """Return each score's place among its node's, from 0 for the largest."""
    order = scores.argsort(dim=-1, descending=True, stable=True)
    places = torch.arange(scores.size(-1), device=scores.device).expand_as(order)
    return torch.empty_like(order).scatter(-1, order, places)
