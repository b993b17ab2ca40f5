"""alpha, the architecture parameters, and its relaxation to mixing weights (Eq. 1)."""

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


def mixing_weights(alpha: Tensor) -> Tensor:
    """`softmax(alpha)` over the candidates (Eq. 1), in float32 or wider."""
    return alpha.to(torch.promote_types(alpha.dtype, torch.float32)).softmax(dim=-1)


def entropy(alpha: Tensor) -> Tensor:
    """Entropy in nats of every node's mixing weights; has alpha's shape without the last axis."""
    return torch.special.entr(mixing_weights(alpha)).sum(dim=-1)


def mean_entropy(alphas: Iterable[Tensor]) -> Tensor:
    """Mean entropy in nats of the mixing weights over the nodes of all stacks."""
    return torch.cat([entropy(alpha).flatten() for alpha in alphas]).mean()
