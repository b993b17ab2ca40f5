"""Mixins of strategies that sample: one candidate of each node, or a Gumbel-softmax sample."""

from __future__ import annotations

import math
from typing import ClassVar

from torch import Tensor, nn

from ..errors import InputError
from ..reversible.coupling import Partial
from ..search_space.relaxation import gumbel_softmax
from ..search_space.sampling import best, chosen
from .alpha_strategy import AlphaStrategy
from .options import ALPHA_OPTIONS
from .strategy import StepResult


class OneCandidate(AlphaStrategy):
    """Mixin of strategies in which one candidate runs in each node: cost and memory are those of
    the derived model. It validates the derived architecture."""

    draws = True
    options = tuple(name for name in ALPHA_OPTIONS if name != "arch_noise")

    def valid_step(self, valid_step, sample, model, criterion) -> StepResult:
        """Validate the architecture of the largest alphas, without ``--derive-exclude``."""
        with chosen(model, best(model, self.exclude)):
            return valid_step(sample, model, criterion)


class GumbelSample(AlphaStrategy):
    """Mixin of strategies that mix by a Gumbel-softmax sample, whose temperature changes linearly.

    Attributes:
        temperatures: defaults of ``--arch-temperature``, the first and the last.
    """

    temperatures: ClassVar[tuple[float, float]]

    def check(self) -> None:
        """Read the temperatures."""
        super().check()
        option, values = self.cfg.arch_temperature, self.temperatures
        if option is not None:
            try:
                values = tuple(map(float, str(option).split(",")))
            except ValueError:
                values = ()
            if not 1 <= len(values) <= 2 or not all(0 < value < math.inf for value in values):
                first, last = self.temperatures
                raise InputError(
                    f"--arch-temperature is {option}, it must be a positive number or two, the "
                    f"first and the last, such as {first:g},{last:g}"
                )
        self.first, self.last = values[0], values[-1]
        if self.first != self.last:
            self.progress(0)  # reports a search without an end

    def sample(self, coder: nn.Module, update_num: int) -> Tensor | Partial:
        """Mix by a sample."""
        temperature = self.first
        if self.first != self.last:
            temperature += (self.last - self.first) * self.progress(update_num)
        return gumbel_softmax(coder.alpha, coder.mask, temperature)
