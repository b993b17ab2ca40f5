"""Products with the Hessian of the supernet's loss, by finite differences."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from ..reversible.seeding import draw_seed, preserved_generators, seed_generators

# Gradients of a loss with respect to some parameters.
Gradients = Callable[[], list[Tensor]]


@contextmanager
def shifted(
    parameters: Sequence[nn.Parameter], direction: Sequence[Tensor], step: float | Tensor
) -> Iterator[None]:
    """Move the parameters by ``step · direction``; on exit they have their old values, bit by
    bit."""
    before = [p.detach().clone() for p in parameters]
    with torch.no_grad():
        for parameter, vector in zip(parameters, direction, strict=True):
            parameter.add_(step * vector)
    try:
        yield
    finally:
        with torch.no_grad():
            for parameter, value in zip(parameters, before, strict=True):
                parameter.copy_(value)


def directional_derivative(
    gradients: Gradients,
    parameters: Sequence[nn.Parameter],
    direction: Sequence[Tensor],
    radius: float,
) -> list[Tensor]:
    """Return `[g(θ + r v) - g(θ - r v)] / 2r`, where `r = radius / ‖v‖`, two passes.

    With g the gradients of a loss, this approximates the product of a block of its Hessian with v.
    Both passes draw the same dropout masks; the generators are as before at the end.

    Args:
        gradients: g.
        parameters: θ.
        direction: v, shaped like θ.
        radius: length of the step.
    """
    norm = torch.stack([v.norm() for v in direction]).norm().clamp_min(1e-30)
    device = direction[0].device
    seed, step, found = draw_seed(), radius / norm, []
    for sign in (1, -1):
        with preserved_generators(device), shifted(parameters, direction, sign * step):
            seed_generators(seed, device)
            found.append(gradients())
    return [(plus - minus) / (2 * step) for plus, minus in zip(*found, strict=True)]


def neumann_series(
    product: Callable[[list[Tensor]], list[Tensor]], vector: list[Tensor], terms: int, rate: float
) -> list[Tensor]:
    """Return `rate · sum_{k=0}^{terms} (I - rate H)^k v`, an approximation of `H⁻¹ v`.

    Args:
        product: `v ↦ H v`.
        vector: v.
        terms: products to compute, K.
        rate: of the gradient descent that the series unrolls.
    """
    total = list(vector)
    for _ in range(terms):
        vector = [v - rate * hv for v, hv in zip(vector, product(vector), strict=True)]
        total = [t + v for t, v in zip(total, vector, strict=True)]
    return [rate * t for t in total]
