"""`uniform_sampling`: one architecture per update, drawn uniformly (Guo et al. 2020, Table 1)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from random import Random
from typing import Any

from fairseq.criterions import FairseqCriterion
from fairseq.optim import FairseqOptimizer
from torch import nn

from ..search_space.sampling import Choice, chosen, draw, parameters_not_chosen
from .strategy import SearchStrategy, StepResult


class UniformSampling(SearchStrategy):
    """Single path one-shot: every search node is one candidate, drawn for each update.

    All batches and workers of an update share the draw, which follows from the seed and the number
    of the update: a resumed search draws what it would have drawn. Alpha is not used. Operations
    that were not drawn have no gradients, as in the authors' code: the optimizer does not move
    them, and their moments do not decay.
    """

    name = "uniform_sampling"
    draws = True

    def draw(self, model: nn.Module, occasion: str) -> Choice:
        """An architecture; the same for the same occasion."""
        return draw(model, Random(f"{self.cfg.seed} {occasion}"))

    def train_step(
        self,
        train_step: Callable[..., StepResult],
        sample: Mapping[str, Any],
        model: nn.Module,
        criterion: FairseqCriterion,
        optimizer: FairseqOptimizer,
        update_num: int,
        ignore_grad: bool,
    ) -> StepResult:
        """Train the operations that are drawn."""
        with chosen(model, self.draw(model, f"update {update_num}")):
            return train_step(sample, model, criterion, optimizer, update_num, ignore_grad)

    def before_optimizer_step(
        self, model: nn.Module, optimizer: FairseqOptimizer, update_num: int
    ) -> None:
        """Remove the gradients of the other operations.

        ``legacy_ddp`` and half precision make zeros of gradients that are missing, and Adam moves a
        parameter at a gradient of zero.
        """
        choice = self.draw(model, f"update {update_num}")
        idle = set(parameters_not_chosen(model, choice))
        # Half precision steps float32 copies, which fairseq keeps in the order of the parameters.
        copies = getattr(optimizer, "fp32_params", None)
        pairs = ((p, p) for p in idle)
        if copies is not None:
            pairs = zip(optimizer.fp16_params, copies, strict=True)
        for parameter, stepped in pairs:
            if parameter in idle:
                stepped.grad = None

    def valid_step(
        self,
        valid_step: Callable[..., StepResult],
        sample: Mapping[str, Any],
        model: nn.Module,
        criterion: FairseqCriterion,
    ) -> StepResult:
        """Each batch sees an architecture of its own, the same in every validation."""
        with chosen(model, self.draw(model, f"validation {int(sample['id'][0])}")):
            return valid_step(sample, model, criterion)
