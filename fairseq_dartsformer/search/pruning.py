"""Pruning: candidates leave the supernet while it trains.

A pruned candidate neither runs nor moves; alpha keeps its shape, and the supernet's checkpoints
hold the mask of what remains.
"""

from __future__ import annotations

import logging
import math
from bisect import bisect_right
from collections.abc import Callable, Collection, Mapping
from typing import Any

import torch
from fairseq.distributed.utils import get_global_rank
from torch import Tensor, nn

from ..errors import InputError
from ..search_space.sampling import best_of_stack, searched_stacks
from .options import read_option
from .strategy import SearchStrategy

logger = logging.getLogger(__name__)


def share_to_keep(cfg: Mapping[str, Any]) -> float:
    """Read ``--prune-keep``; raise an :class:`InputError` if it is not in (0, 1)."""
    return read_option(cfg, "prune_keep", 0.5, lambda s: 0 < s < 1, "lie between 0 and 1")


def check_memory(budget: float | None, keep: float | None, following: SearchStrategy) -> None:
    """Raise an :class:`InputError` if ``--prune-memory`` (GB) is not positive, ``--prune-keep`` is
    given, too, or the strategy that follows cannot be planned."""
    if budget is None:
        return
    if not 0 < budget < math.inf:
        raise InputError(f"--prune-memory is {budget}, it must be a positive number of GB")
    if keep is not None:
        raise InputError(
            f"--prune-memory is {budget} and --prune-keep is {keep}: give only one of them"
        )
    if following.generates:
        raise InputError(
            f"--prune-memory is {budget}, which cannot be planned for {following.name}, because "
            "its updates generate translations: give --prune-keep"
        )


def share_that_fits(peak: Callable[[float], int], budget: float, candidates: int) -> float:
    """Return the largest share of candidates with which a search fits a budget of memory.

    Args:
        peak: bytes of a search, given the share of each node's candidates that remain.
        budget: in GB, 1e9 bytes (``--prune-memory``).
        candidates: of the node that has the most.

    Raises:
        InputError: not even the search of one candidate in each node fits.
    """
    # Half a candidate less than a multiple: shares are rounded up.
    shares = [(count - 0.5) / candidates for count in range(1, candidates + 1)]
    limit, least = budget * 1e9, peak(shares[0])
    if least > limit:
        raise InputError(
            f"--prune-memory is {budget}: the search that follows needs up to "
            f"{math.ceil(least / 1e6) / 1e3} GB with a single candidate in each node, give at "
            "least this"
        )
    count = bisect_right(shares, limit, lo=1, key=peak)
    if get_global_rank() == 0:
        logger.info(
            f"--prune-memory {budget}: {count} of {candidates} candidates will remain in each node"
        )
    return shares[count - 1]


def prune(supernet: nn.Module, share: float, exclude: Collection[str] = ()) -> None:
    """Keep the best candidates of encoder and decoder, see :func:`keep_best`, and log their
    number."""
    stacks = searched_stacks(supernet)
    for coder in stacks.values():
        keep_best(coder, share, exclude)
    if get_global_rank() == 0:
        remaining = (
            f"{int(coder.remaining[0, 0].sum())} of {coder.alpha.size(-1)} candidates in a node of "
            f"the {name}"
            for name, coder in stacks.items()
        )
        logger.info(f"pruned: {', '.join(remaining)} remain")


def keep_best(coder: nn.Module, share: float, exclude: Collection[str] = ()) -> None:
    """Keep in every node the given share of its candidates, rounded up, by alpha.

    The best that is not in ``exclude`` (``--derive-exclude``) is always among them, so that a
    genotype can be derived. Candidates that were pruned before do not return.
    """
    scores = coder.scores.detach()
    scores.scatter_(-1, best_of_stack(coder, exclude).unsqueeze(-1), math.inf)
    count = math.ceil(coder.alpha.size(-1) * share)
    coder.keep((ranks(scores) < count) & coder.remaining)


def ranks(scores: Tensor) -> Tensor:
    """Return each score's place among its node's, from 0 for the largest."""
    order = scores.argsort(dim=-1, descending=True, stable=True)
    places = torch.arange(scores.size(-1), device=scores.device).expand_as(order)
    return torch.empty_like(order).scatter(-1, order, places)
