"""Relaxations: from alpha to mixing weights, some of them by sampling.

All take alpha, `… × candidates`, and a mask of the candidates that have not been pruned, `None` for
all; they return mixing weights of the same shape in float32 or wider, zero where pruned. A search
strategy chooses the relaxation; a model without one uses :func:`softmax`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from random import Random
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor

from ..reversible.coupling import Partial
from ..reversible.seeding import seed_generators

Relaxation = Callable[[Tensor, Tensor | None], Tensor]


def logits(alpha: Tensor, remaining: Tensor | None) -> Tensor:
    """`log_softmax(alpha)` over the remaining candidates, minus infinity elsewhere."""
    alpha = alpha.to(torch.promote_types(alpha.dtype, torch.float32))
    if remaining is not None:
        alpha = alpha.masked_fill(~remaining, -torch.inf)
    return alpha.log_softmax(dim=-1)


def softmax(alpha: Tensor, remaining: Tensor | None = None) -> Tensor:
    """`softmax(alpha)` (Eq. 1)."""
    return logits(alpha, remaining).exp()


def clamp(alpha: Tensor, remaining: Tensor | None = None) -> Tensor:
    """alpha clamped to [0, 1]: the bounded activation of DARTS-PRIME (2106.11655)."""
    alpha = alpha.to(torch.promote_types(alpha.dtype, torch.float32)).clamp(0, 1)
    return alpha if remaining is None else alpha.masked_fill(~remaining, 0)


def concentration(alpha: Tensor) -> Tensor:
    """`elu(alpha) + 1`: the positive parameters of DrNAS's Dirichlet distribution (2006.10355)."""
    return F.elu(alpha.to(torch.promote_types(alpha.dtype, torch.float32))) + 1


def dirichlet_mean(alpha: Tensor, remaining: Tensor | None = None) -> Tensor:
    """Expectation of :func:`dirichlet`."""
    return _normalised(concentration(alpha), remaining)


def dirichlet(alpha: Tensor, remaining: Tensor | None = None) -> Tensor:
    """A sample of Dirichlet(`elu(alpha) + 1`), with pathwise derivatives."""
    # Normalised Gamma variables; those of the remaining candidates are Dirichlet distributed, too.
    gamma = torch.distributions.Gamma(concentration(alpha).cpu(), 1.0).rsample()
    return _normalised(gamma.to(alpha.device), remaining)


def gumbel_softmax(
    alpha: Tensor, remaining: Tensor | None = None, temperature: float = 1.0
) -> Tensor:
    """A sample of the concrete distribution: `softmax((log softmax(alpha) + G) / temperature)`.

    G is Gumbel noise. (Maddison et al. 2017, Jang et al. 2017)
    """
    found = logits(alpha, remaining)
    noise = -torch.empty_like(found, device="cpu").exponential_().log()
    return ((found + noise.to(found.device)) / temperature).softmax(dim=-1)


def straight_through(weights: Tensor) -> Partial:
    """Only the largest weight's candidate runs, with weight 1 and the derivatives of ``weights``.

    As GDAS (1910.04465) does it; derivatives of the other candidates' outputs are left out.
    """
    chosen = F.one_hot(weights.argmax(-1), weights.size(-1)).to(weights.dtype)
    return Partial(chosen + (weights - weights.detach()), _active(chosen))


def score_function(alpha: Tensor, remaining: Tensor | None = None) -> Partial:
    """One candidate, drawn from `softmax(alpha)`, runs with weight 1.

    The weight's derivatives are those of the logarithm of its probability, so that alpha's gradient
    is `∇ log p(z) <g, o_z(h)>`, as in DSNAS (2002.09128).
    """
    found = logits(alpha, remaining)
    noise = -torch.empty_like(found, device="cpu").exponential_().log()
    drawn = (found.detach() + noise.to(found.device)).argmax(-1, keepdim=True)
    score = found.gather(-1, drawn)
    weights = torch.zeros_like(found).scatter(-1, drawn, 1 + (score - score.detach()))
    return Partial(weights, _active(weights.detach()))


def with_noise(weights: Tensor, scale: float, remaining: Tensor | None = None) -> Tensor:
    """Add uniform noise in ±``scale``, clamp to [0, 1], and restore the sum (SDARTS-RS,
    2002.05283)."""
    noise = torch.empty_like(weights, device="cpu").uniform_(-scale, scale).to(weights.device)
    noisy = (weights + noise).clamp(1e-7, 1)
    return _normalised(noisy, remaining) * weights.sum(dim=-1, keepdim=True)


@contextmanager
def drawing(occasion: str) -> Iterator[None]:
    """Let samples depend only on ``occasion``: equal on all workers, devices and after a resume."""
    with torch.random.fork_rng(devices=[]):
        seed_generators(Random(occasion).getrandbits(62), torch.device("cpu"))
        yield


def _normalised(weights: Tensor, remaining: Tensor | None) -> Tensor:
    if remaining is not None:
        weights = weights.masked_fill(~remaining, 0)
    return weights / weights.sum(dim=-1, keepdim=True)


def _active(chosen: Tensor) -> list[Any]:
    """The index of each node's only nonzero weight, as :class:`Partial` wants it."""
    if isinstance(chosen, FakeTensor):  # the memory planner's, which have no values
        *nodes, candidates = chosen.shape
        return np.random.randint(candidates, size=(*nodes, 1)).tolist()
    return chosen.argmax(-1, keepdim=True).tolist()
