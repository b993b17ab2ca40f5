"""The search node's relaxation (Eq. 1): alpha, its softmax and its entropy; and its other use, one
candidate at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from random import Random

import torch
from torch import Tensor, nn

# For `encoder` and `decoder`, for each layer of the block, for each search node: the index of one
# candidate.
Choice = Mapping[str, Sequence[Sequence[int]]]

ALPHA_GROUP = "alpha"  # the `param_group` by which optimizers tell alpha from the weights


def new_alpha(block: int, nodes: int, candidates: int) -> nn.Parameter:
    """alpha of one stack, `s × nodes × candidates`, drawn from a normal of deviation 1e-3."""
    alpha = nn.Parameter(1e-3 * torch.randn(block, nodes, candidates))
    alpha.param_group = ALPHA_GROUP
    return alpha


def is_alpha(parameter: nn.Parameter) -> bool:
    """Whether an optimizer's parameter, or its float32 twin, is an alpha."""
    return getattr(parameter, "param_group", None) == ALPHA_GROUP


def mixing_weights(alpha: Tensor) -> Tensor:
    """`softmax(alpha)` over the candidates (Eq. 1), at least in float32."""
    return alpha.to(torch.promote_types(alpha.dtype, torch.float32)).softmax(dim=-1)


def entropy(alpha: Tensor) -> Tensor:
    """Entropy in nats of every node's mixing weights: the shape of ``alpha`` without its last."""
    return torch.special.entr(mixing_weights(alpha)).sum(dim=-1)


def mean_entropy(alphas: Iterable[Tensor]) -> Tensor:
    """Entropy in nats of the mixing weights, the mean over the nodes of all stacks."""
    return torch.cat([entropy(alpha).flatten() for alpha in alphas]).mean()


def draw(supernet: nn.Module, generator: Random) -> Choice:
    """A candidate for every search node, each with the same probability."""
    choice = {}
    for name, side in (("encoder", supernet.encoder), ("decoder", supernet.decoder)):
        layers, nodes, candidates = side.alpha.shape
        choice[name] = [
            [generator.randrange(candidates) for _ in range(nodes)] for _ in range(layers)
        ]
    return choice


@contextmanager
def chosen(supernet: nn.Module, choice: Choice) -> Iterator[None]:
    """Within, every node of ``supernet`` is the chosen candidate alone; alpha is not used.

    It then computes what the model derived with that choice does, with the same weights.
    """
    supernet.encoder.choice, supernet.decoder.choice = choice["encoder"], choice["decoder"]
    try:
        yield
    finally:
        supernet.encoder.choice = supernet.decoder.choice = None
