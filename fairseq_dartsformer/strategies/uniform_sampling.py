"""`uniform_sampling`: an architecture an update, drawn uniformly (Guo et al. 2020, Table 1)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from random import Random
from typing import Any

import torch
from fairseq.optim import FairseqOptimizer
from torch import nn

from ..search_space import Choice, chosen, draw
from .base import SearchStrategy, StepResult


class UniformSampling(SearchStrategy):
    """Single path one-shot: every search node is one candidate, drawn anew for each update.

    All batches and workers of an update share the draw, so that how they are divided does not
    matter. It follows from the seed and the number of the update alone: a resumed search draws what
    it would have drawn. Alpha is not used.

    The objective is the expected loss over all architectures (Guo et al., Eq. 7). In its stochastic
    gradient the operations that were not drawn have zeros, which the optimizer gets to see.
    """

    name = "uniform_sampling"
    draws = True

    def draw(self, model: nn.Module, occasion: str) -> Choice:
        """An architecture, always the same on an occasion."""
        return draw(model, Random(f"{self.cfg.seed} {occasion}"))

    def train_step(
        self,
        step: Callable[[], StepResult],
        sample: Mapping[str, Any],
        model: nn.Module,
        optimizer: FairseqOptimizer,
        update_num: int,
        ignore_grad: bool,
    ) -> StepResult:
        """Train the drawn operations."""
        with chosen(model, self.draw(model, f"update {update_num}")):
            result = step()
        # `legacy_ddp` and half precision make zeros of gradients that are not there, and others do
        # not: Adam, which moves a parameter at zero too, shall do the same in all of them.
        for parameter in model.parameters():
            if parameter.requires_grad and parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        return result

    def valid_step(
        self, step: Callable[[], StepResult], sample: Mapping[str, Any], model: nn.Module
    ) -> StepResult:
        """Each batch sees an architecture of its own, the same in every validation."""
        with chosen(model, self.draw(model, f"validation {int(sample['id'][0])}")):
            return step()
