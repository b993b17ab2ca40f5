"""Penalties on alpha, for ``--arch-penalty NAME:WEIGHT[,NAME:WEIGHT]``.

A penalty is a function of alpha alone. Its gradient, times the weight, is added to alpha's after
the loss's has been averaged and clipped; it is therefore the same on all workers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from ..errors import InputError
from ..operations import Context
from ..search_space.relaxation import concentration
from ..search_space.sampling import searched_node

LENGTH = 20  # tokens of the sentence whose FLOPs are counted

# The searched encoder and decoder by name, and the share of the search that is done, on demand.
Penalty = Callable[[Mapping[str, nn.Module], Callable[[], float]], Tensor]


def beta(coders: Mapping[str, nn.Module], progress: Callable[[], float]) -> Tensor:
    """`t/T · mean(logsumexp(alpha))` over the nodes (beta-DARTS, 2203.01665)."""
    found = [_remaining(coder).logsumexp(-1).flatten() for coder in coders.values()]
    return progress() * torch.cat(found).mean()


def proximity(coders: Mapping[str, nn.Module], progress: Callable[[], float]) -> Tensor:
    """`t/T · sum ½ ‖W - disc(W)‖`, a norm for each node (DARTS-PRIME, 2106.11655).

    `disc` keeps the largest mixing weight of a node as 1 and makes the others 0.
    """
    distances = []
    for coder in coders.values():
        weights = coder.mixing_weights()
        distances.append((weights - discretised(weights)).norm(dim=-1).sum())
    return progress() * sum(distances) / 2


def flat_dirichlet(coders: Mapping[str, nn.Module], progress: Callable[[], float]) -> Tensor:
    """KL divergence of DrNAS's Dirichlet distributions from the flat one, summed over the nodes
    (2006.10355)."""
    found = []
    for coder in coders.values():
        remaining, c = coder.remaining, concentration(coder.alpha)
        total = c.masked_fill(~remaining, 0).sum(-1)
        terms = (c - 1) * (c.digamma() - total.digamma().unsqueeze(-1)) - c.lgamma()
        counts = remaining.sum(-1).to(c)
        divergence = total.lgamma() - counts.lgamma() + terms.masked_fill(~remaining, 0).sum(-1)
        found.append(divergence.sum())
    return sum(found)


def expected_cost(
    cost: Callable[[nn.Module, nn.Module], float],
    coders: Mapping[str, nn.Module],
    progress: Callable[[], float],
) -> Tensor:
    """`ln(sum of W · cost)` over all nodes and candidates of a block (SNAS, 1812.09926)."""
    total = 0.0
    for coder in coders.values():
        total = total + (coder.mixing_weights() * costs(coder, cost)).sum()
    return total.clamp_min(1.0).log()


def parameters(operation: nn.Module, coder: nn.Module) -> float:
    """Number of an operation's parameters."""
    return float(sum(p.numel() for p in operation.parameters()))


def flops(operation: nn.Module, coder: nn.Module) -> float:
    """FLOPs of an operation's matrix products, convolutions and attention for one sentence."""
    weight = next(operation.parameters(), None)
    if weight is None:
        return 0.0
    width, wide = operation.layer_norm.normalized_shape[0], coder.layer_norm.normalized_shape[0]
    like = {"dtype": weight.dtype, "device": weight.device}
    context = Context(encoder_out=torch.zeros(LENGTH, 1, wide, **like))
    training = operation.training
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        operation.eval()(torch.zeros(LENGTH, 1, width, **like), context)
    operation.train(training)
    return float(counter.get_total_flops())


def costs(coder: nn.Module, cost: Callable[[nn.Module, nn.Module], float]) -> Tensor:
    """Return each candidate's cost, computed once for a stack."""
    kept = coder.__dict__.setdefault("costs", {})
    if cost not in kept:
        kept[cost] = torch.tensor([cost(operation, coder) for operation in searched_node(coder)])
    return kept[cost].to(coder.alpha.device)


def discretised(weights: Tensor) -> Tensor:
    """1 for each node's largest weight, 0 for the others."""
    return torch.zeros_like(weights).scatter(-1, weights.argmax(-1, keepdim=True), 1.0)


def _remaining(coder: nn.Module) -> Tensor:
    return coder.alpha.masked_fill(~coder.remaining, -math.inf)


SCHEDULED = (beta, proximity)  # grow over the search, whose length they need
PENALTIES: dict[str, Penalty] = {
    "beta": beta,
    "proximity": proximity,
    "flat_dirichlet": flat_dirichlet,
    "parameters": partial(expected_cost, parameters),
    "flops": partial(expected_cost, flops),
}


def build_penalties(text: str | None) -> list[tuple[float, Penalty]]:
    """Read ``--arch-penalty``.

    Raises:
        InputError: a name is unknown or given twice, or a weight is no finite number.
    """
    found: dict[str, tuple[float, Penalty]] = {}
    for part in filter(None, map(str.strip, (text or "").split(","))):
        name, _, number = part.partition(":")
        try:
            weight = float(number)
        except ValueError:
            weight = math.nan
        if name not in PENALTIES or name in found or not math.isfinite(weight):
            raise InputError(
                f"--arch-penalty: {part!r} must be NAME:WEIGHT with a name that is given once, of "
                f"{', '.join(PENALTIES)}, and a finite number"
            )
        found[name] = (weight, PENALTIES[name])
    return list(found.values())
