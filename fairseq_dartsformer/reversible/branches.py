"""Which branches of a node run, and with what weights."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

# For the first m nodes of a layer: the weights of their branches, `m × candidates`; or the index of
# the one branch that runs, unweighted, of each. None where nodes have no more than one branch.
Mixture = Tensor | Sequence[int] | None

# Those of the layers of a block: `s × m × candidates` weights or `s × m` indices.
Mixtures = Tensor | Sequence[Sequence[int]] | None

# The branches of a node that run, each with its weight, None without one.
Running = Sequence[tuple[nn.Module, Tensor | None]]


def by_layer(mixtures: Mixtures, layers: int) -> list[Mixture]:
    """The mixture of every layer of a stack, layer i taking row ``i % s``."""
    return [None if mixtures is None else mixtures[i % len(mixtures)] for i in range(layers)]


def running(nodes: Sequence[Sequence[nn.Module]], mixture: Mixture) -> Iterator[Running]:
    """For every node of a layer the branches that run; nodes beyond the mixture have one."""
    for k, branches in enumerate(nodes):
        if mixture is None or k >= len(mixture):
            (branch,) = branches
            yield [(branch, None)]
        elif isinstance(mixture, Tensor):
            yield list(zip(branches, mixture[k], strict=True))
        else:
            yield [(branches[mixture[k]], None)]


def node_output(branches: Running, h: Tensor, context: NamedTuple, **state: Any) -> Tensor:
    """The sum of the branches' outputs, each times its weight (Eq. 1), in the dtype of ``h``.

    Args:
        branches: called as ``branch(h, context, **state)``; one without a weight is alone.
        h: `T × B × C`.
        context, state: handed to every branch.
    """
    total = None
    for branch, weight in branches:
        out = branch(h, context, **state).to(h.dtype)
        if weight is None:
            return out
        total = torch.addcmul(torch.zeros_like(h) if total is None else total, weight, out)
    return total
