"""Strategies in which alpha moves together with the weights, by gradients of its own data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fairseq.optim import FairseqOptimizer
from torch import Tensor, nn

from ..search_space.levels import ALPHA, LEVELS, WEIGHTS
from .alpha_strategy import (
    Batch,
    abandoning,
    add_gradients,
    loss_of,
    parameters_of,
    to_device,
    without_wrappers,
)
from .split_strategy import SplitStrategy, with_level_loss
from .strategy import StepResult


class OnDemandStrategy(SplitStrategy):
    """Each update moves the weights by batches of their data. Some also move alpha, before the
    weights have moved, by as many batches of alpha's data, drawn when they are needed.

    A subclass says when alpha moves (:meth:`moves_alpha`) and by which gradients
    (:meth:`alpha_gradients`).
    """

    float32_only = True
    alternating = False

    def check(self) -> None:
        """Begin with the first of alpha's batches."""
        super().check()
        self.position = 0  # batches of alpha's data that each worker has had
        self.pairs: list[tuple[Batch, Batch]] = []

    def moves_alpha(self, update_num: int) -> bool:
        """Whether the update after ``update_num`` finished ones moves alpha, too."""
        due = (update_num + 1 - self.arch_start) % self.arch_interval == 0
        return update_num >= self.arch_start and due

    def alpha_gradients(
        self, module: nn.Module, train: Sequence[Batch], valid: Sequence[Batch], update_num: int
    ) -> list[Tensor]:
        """Return the gradients of alpha, in the model's order.

        Args:
            module: the supernet without wrappers.
            train, valid: this worker's batches of the weights' data and of alpha's.
            update_num: number of finished updates.
        """
        return self.mean_loss(module, valid, (ALPHA,), update_num)[1]

    def train_step(
        self, train_step, sample, model, criterion, optimizer, update_num, ignore_grad
    ) -> StepResult:
        """Train the weights, and draw a batch for alpha."""
        self.level_of_batch(sample, ignore_grad)
        self.loss = loss_of(criterion)
        with abandoning(self.pairs):
            with self.passing((WEIGHTS,), model, optimizer, update_num):
                result = train_step(sample, model, criterion, optimizer, update_num, ignore_grad)
            if self.moves_alpha(update_num):
                self.pairs.append((sample, to_device(self.alpha_sample(sample), model)))
        return with_level_loss(result, WEIGHTS)

    def alpha_sample(self, sample: Batch) -> Batch:
        """Draw the next batch of alpha's data, beside one of the weights'."""
        if self.iterator is None:  # the memory planner has one batch for everything
            return sample
        return self.iterator.alpha_sample(self.position + len(self.pairs))

    def before_optimizer_step(
        self, model: nn.Module, optimizer: FairseqOptimizer, update_num: int
    ) -> None:
        """Compute alpha's gradients."""
        if self.moves_alpha(update_num):
            module = without_wrappers(model)
            train, valid = ([pair[i] for pair in self.pairs] for i in range(2))
            grads = self.alpha_gradients(module, train, valid, update_num)
            add_gradients(parameters_of(module, (ALPHA,)), grads)
            optimizer.optimizer.levels = LEVELS
        super().before_optimizer_step(model, optimizer, update_num)

    def after_update(self, model: nn.Module, optimizer: FairseqOptimizer, update_num: int) -> None:
        """Count alpha's batches."""
        super().after_update(model, optimizer, update_num)
        self.position += len(self.pairs)
        self.pairs = []

    def state_dict(self) -> dict[str, Any]:
        """The position in alpha's data."""
        return super().state_dict() | {"position": self.position}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue there."""
        super().load_state_dict(state)
        self.position = state["position"]
