"""The penalty of DARTS-PRIME's alternating direction method of multipliers (2106.11655)."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from .penalties import discretised

INTERVAL = 10  # steps of alpha between two of the dual variable


class ADMM:
    """`½ ‖W - Z + U‖`, a norm for each stack, with a discrete Z that follows alpha.

    Attributes:
        steps: of alpha so far.
        target: Z by stack; before the first step, the discretised weights.
        dual: U by stack; before the first step, 0.
    """

    def __init__(self):
        self.steps = 0
        self.target: dict[str, Tensor] = {}
        self.dual: dict[str, Tensor] = {}

    def __call__(self, coders: Mapping[str, nn.Module], progress: Callable[[], float]) -> Tensor:
        """Return the penalty, see :data:`.penalties.Penalty`."""
        distances = []
        for stack, coder in coders.items():
            weights = coder.mixing_weights()
            dual = self.dual.get(stack, torch.zeros_like(weights)).to(weights)
            target = self.target.get(stack, discretised(weights).detach()).to(weights)
            distances.append((weights - target + dual).norm())
        return sum(distances) / 2

    @torch.no_grad()
    def step(self, coders: Mapping[str, nn.Module]) -> None:
        """Count a step of alpha; every tenth moves Z and U."""
        self.steps += 1
        for stack, coder in coders.items() if self.steps % INTERVAL == 0 else ():
            dual = self.dual.get(stack, torch.zeros_like(coder.alpha)).to(coder.alpha)
            self.target[stack] = discretised(coder.relaxation(coder.alpha + dual, coder.mask))
            self.dual[stack] = dual + coder.mixing_weights() - self.target[stack]
