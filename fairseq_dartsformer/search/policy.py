"""alpha as a policy that draws architectures, trained by reinforcement (REINFORCE)."""

from __future__ import annotations

from typing import Any

import torch

from ..search_space.levels import ALPHA, LEVELS, WEIGHTS
from ..search_space.relaxation import score_function
from .alpha_strategy import (
    AlphaStrategy,
    abandoning,
    add_gradients,
    parameters_of,
    sum_over_workers,
    without_wrappers,
)

MEMORY = 0.9  # of the running mean of losses, the baseline


class Policy(AlphaStrategy):
    """One candidate runs in each node, drawn from softmax(alpha); alpha moves by REINFORCE.

    Its gradient is `(L - b) ∇ log p(z)` for the drawn candidates z, where b is a running mean of
    the loss L. L is of alpha's data if batches alternate between the levels, else of the weights'.

    Attributes:
        alternating: whether they do.
    """

    draws = True
    float32_only = True
    alternating = False

    def check(self) -> None:
        """Begin without a baseline."""
        super().check()
        self.baseline: float | None = None
        self.losses: list[torch.Tensor] = []  # of this update's batches: sums and sizes
        self.mean: float | None = None  # of the update's losses on all workers

    def sample(self, coder, update_num):
        """Draw a candidate for every node."""
        return score_function(coder.alpha, coder.mask)

    def train_step(self, train_step, sample, model, criterion, optimizer, update_num, ignore_grad):
        """Train the drawn candidates; on alpha's data, only compute their loss."""
        level = sample.get("level", WEIGHTS) if self.alternating else WEIGHTS
        with (
            abandoning(self.losses),
            self.passing((level,), model, optimizer, update_num),
        ):
            if level == ALPHA:
                with torch.no_grad():
                    model.train()
                    result = criterion(model, sample)
            else:
                arguments = (optimizer, update_num, ignore_grad)
                result = train_step(sample, model, criterion, *arguments)
        if (level == ALPHA or not self.alternating) and update_num >= self.arch_start:
            size = 0 if ignore_grad else result[1]
            self.losses.append(torch.stack([result[0].detach(), result[0].new_tensor(size)]))
        return result

    def before_optimizer_step(self, model, optimizer, update_num) -> None:
        """Compute the policy's gradients."""
        measured = ALPHA in optimizer.optimizer.levels or not self.alternating
        if measured and update_num >= self.arch_start:
            self._reinforce(without_wrappers(model), update_num)
            if optimizer.optimizer.levels == (WEIGHTS,):
                optimizer.optimizer.levels = LEVELS
        super().before_optimizer_step(model, optimizer, update_num)

    def _reinforce(self, module, update_num: int) -> None:
        """Add the policy's gradients to alpha's."""
        # A worker has none if it had no memory for them.
        none = torch.zeros(2, device=next(module.parameters()).device)
        total = sum_over_workers(torch.stack([none, *self.losses]).sum(0))
        self.mean = float(total[0] / total[1].clamp_min(1))
        alphas = parameters_of(module, (ALPHA,))
        with torch.enable_grad():
            drawn = self.mixtures(module, (ALPHA,), update_num)
            probability = sum(mixture.weights.sum() for mixture in drawn.values())
            grads = torch.autograd.grad(probability, alphas)
        advantage = 0.0 if self.baseline is None else self.mean - self.baseline
        add_gradients(alphas, [advantage * grad for grad in grads])

    def after_update(self, model, optimizer, update_num) -> None:
        """Advance the baseline."""
        if self.mean is not None:
            before = self.mean if self.baseline is None else self.baseline
            self.baseline = MEMORY * before + (1 - MEMORY) * self.mean
        self.mean, self.losses = None, []

    def state_dict(self) -> dict[str, Any]:
        """The baseline."""
        return super().state_dict() | {"baseline": self.baseline}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue with it."""
        super().load_state_dict(state)
        self.baseline = state["baseline"]
