"""alpha, the architecture parameters."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

ALPHA_GROUP = "alpha"  # the `param_group` by which optimizers tell alpha from the weights


def new_alpha(block: int, nodes: int, candidates: int) -> nn.Parameter:
    """Create alpha of one stack, `s × nodes × candidates`, drawn from N(0, 1e-3²)."""
    alpha = nn.Parameter(1e-3 * torch.randn(block, nodes, candidates))
    alpha.param_group = ALPHA_GROUP
    return alpha


def is_alpha(parameter: nn.Parameter) -> bool:
    """Whether a parameter, or its float32 copy in an optimizer, is alpha."""
    return getattr(parameter, "param_group", None) == ALPHA_GROUP


def entropy(weights: Tensor) -> Tensor:
    """Entropy in nats of the mixing weights of each node, `… × candidates`; weights that do not sum
    to 1 are scaled."""
    weights = weights / weights.sum(dim=-1, keepdim=True)
    return torch.special.entr(weights).sum(dim=-1)


def mean_entropy(weights: Iterable[Tensor]) -> Tensor:
    """Mean entropy in nats over the nodes of all stacks."""
    return torch.cat([entropy(w).flatten() for w in weights]).mean()
