"""Stopping by the curvature of alpha's loss (RobustDARTS, Zela et al. 2020, arXiv:1909.09656).

Where the dominant eigenvalue of the Hessian of L_val with respect to alpha grows quickly, a search
by DARTS begins to choose architectures that do worse when they are trained alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from ..search_space.relaxation import drawing
from .hypergradient import directional_derivative

ITERATIONS = 8  # of the power method, two passes each
RADIUS = 0.1  # length of the step of finite differences
WINDOW, LAG = 3, 5  # values that are averaged, and between the averages compared: as in the paper


def dominant_eigenvalue(
    gradients: Callable[[], list[Tensor]], parameters: Sequence[nn.Parameter]
) -> float:
    """Approximate the eigenvalue of largest magnitude of a loss's Hessian by the power method.

    Args:
        gradients: of the loss with respect to ``parameters``.
        parameters: take part; they have their old values at the end.
    """
    with drawing("eigenvalue"):
        vector = [torch.randn_like(p, device="cpu").to(p.device) for p in parameters]
    value = 0.0
    for _ in range(ITERATIONS):
        norm = torch.stack([v.norm() for v in vector]).norm().clamp_min(1e-30)
        vector = [v / norm for v in vector]
        product = directional_derivative(gradients, parameters, vector, RADIUS)
        value = float(sum((v * p).sum() for v, p in zip(vector, product, strict=True)))
        vector = product
    return value


def has_grown(values: Sequence[float], ratio: float) -> bool:
    """Whether the mean of the last values times ``ratio`` exceeds that of the values before."""
    if len(values) < WINDOW + LAG:
        return False
    now = sum(values[-WINDOW:]) / WINDOW
    before = sum(values[-WINDOW - LAG : -LAG]) / WINDOW
    return now > 0 and before < ratio * now
