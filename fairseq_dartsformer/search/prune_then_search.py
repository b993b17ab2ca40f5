"""`prune_then_search`: reinforcement prunes candidates, then another strategy searches.

After the abstract of RADARS (Yan et al. 2021, arXiv:2109.05691), whose code is not public.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import nn

from ..errors import InputError
from ..search_space.levels import ALPHA, LEVELS, WEIGHTS
from ..search_space.relaxation import score_function
from ..search_space.sampling import searched_stacks
from .alpha_strategy import (
    AlphaStrategy,
    add_gradients,
    parameters_of,
    sum_over_workers,
    without_wrappers,
)
from .pruning import check_share, keep_best
from .strategy import SearchStrategy

OWN = ("prune_at", "prune_keep", "prune_rounds", "then_strategy")
MEMORY = 0.9  # of the running mean of losses, the baseline


class PruneThenSearch(AlphaStrategy):
    """First alpha is a policy that draws one candidate for each node; then candidates are few.

    Until ``--prune-at``, the weights of the drawn candidates are trained, and alpha moves by
    REINFORCE: `(L - b) ∇ log p(z)`, where b is a running mean of L. In ``--prune-rounds`` rounds
    the least probable candidates are pruned down to the share ``--prune-keep``. Then alpha shrinks
    to the scale that it had at first, and ``--then-strategy`` searches what remains with the
    trained weights. L is the loss on alpha's data if that strategy alternates between the levels,
    else on the weights' data.

    Attributes:
        strategies: those that can follow, by name.
        inner: the one that follows.
    """

    name = "prune_then_search"
    draws = True
    strategies: ClassVar[Mapping[str, type[SearchStrategy]]] = {}

    @classmethod
    def options_of(cls, cfg: Mapping[str, Any]) -> tuple[str, ...]:
        """Its own options and those of the strategy that follows."""
        following = cls.strategies.get(cfg.get("then_strategy") or "darts", AlphaStrategy)
        return (*OWN, *following.options)

    @classmethod
    def relaxation(cls, cfg: Mapping[str, Any]):
        """That of the strategy that follows."""
        return cls.strategies[cfg.get("then_strategy") or "darts"].relaxation(cfg)

    def check(self) -> None:
        """Read when and how much to prune, and build the strategy that follows."""
        super().check()
        self.refuse_half_precision(f"--search-strategy {self.name}")
        cfg, name = self.cfg, self.cfg.then_strategy or "darts"
        known = [n for n, s in self.strategies.items() if s.learns_alpha() and n != self.name]
        if name not in known:
            raise InputError(f"--then-strategy is {name}: expected one of {', '.join(known)}")
        self.inner: AlphaStrategy = self.strategies[name](cfg)
        self.keep = check_share(cfg.prune_keep)
        self.rounds = 4 if cfg.prune_rounds is None else cfg.prune_rounds
        self.progress(0)  # reports a search without an end
        self.prune_at = max(1, cfg.max_update // 3) if cfg.prune_at is None else cfg.prune_at
        for option, value in (("rounds", self.rounds), ("at", self.prune_at)):
            if value < 1:
                raise InputError(f"--prune-{option} is {value}, it must be at least 1")
        self.generates = self.inner.generates
        self.baseline: float | None = None
        self.losses: list[torch.Tensor] = []  # of this update's batches: sums and sizes

    def prepare(self, model: nn.Module) -> None:
        """Both prepare the model."""
        super().prepare(model)
        self.inner.prepare(model)

    def move_always(self) -> None:
        """Prune: the planner plans the strategy that follows under its own name."""
        super().move_always()
        self.inner.move_always()

    def training_data(self, train, load_split):
        """Those of the strategy that follows."""
        return self.inner.training_data(train, load_split)

    def batches(self, task, dataset, make, **arguments):
        """Those of the strategy that follows."""
        return self.inner.batches(task, dataset, make, **arguments)

    def sample(self, coder, update_num):
        """Draw a candidate for every node."""
        return score_function(coder.alpha, coder.mask)

    def train_step(self, train_step, sample, model, criterion, optimizer, update_num, ignore_grad):
        """Train the drawn candidates; on alpha's data, only compute their loss."""
        if update_num >= self.prune_at:
            return self.inner.train_step(
                train_step, sample, model, criterion, optimizer, update_num, ignore_grad
            )
        alternating = getattr(self.inner, "alternating", False)
        level = sample.get("level", WEIGHTS) if alternating else WEIGHTS
        with self.passing((level,), model, optimizer, update_num):
            if level == ALPHA:
                with torch.no_grad():
                    model.train()
                    result = criterion(model, sample)
            else:
                arguments = (optimizer, update_num, ignore_grad)
                result = train_step(sample, model, criterion, *arguments)
        if (level == ALPHA or not alternating) and update_num >= self.arch_start:
            size = 0 if ignore_grad else result[1]
            self.losses.append(torch.stack([result[0].detach(), result[0].new_tensor(size)]))
        return result

    def before_optimizer_step(self, model, optimizer, update_num) -> None:
        """Compute the policy's gradients."""
        if update_num >= self.prune_at:
            self.inner.before_optimizer_step(model, optimizer, update_num)
            return
        super().before_optimizer_step(model, optimizer, update_num)
        if not self.losses:
            return
        total = sum_over_workers(torch.stack(self.losses).sum(0))
        self.mean = float(total[0] / total[1])
        module = without_wrappers(model)
        alphas = parameters_of(module, (ALPHA,))
        with torch.enable_grad():
            drawn = self.mixtures(module, (ALPHA,), update_num)
            probability = sum(mixture.weights.sum() for mixture in drawn.values())
            grads = torch.autograd.grad(probability, alphas)
        advantage = 0.0 if self.baseline is None else self.mean - self.baseline
        add_gradients(alphas, [advantage * grad for grad in grads])
        if optimizer.optimizer.levels == (WEIGHTS,):
            optimizer.optimizer.levels = LEVELS

    @torch.no_grad()
    def after_update(self, model, optimizer, update_num) -> None:
        """Advance the baseline; prune; shrink alpha."""
        if update_num > self.prune_at:
            self.inner.after_update(model, optimizer, update_num)
            return
        if self.losses:
            before = self.mean if self.baseline is None else self.baseline
            self.baseline = MEMORY * before + (1 - MEMORY) * self.mean
            self.losses = []
        for r in range(1, self.rounds + 1):
            if update_num == max(1, self.prune_at * r // self.rounds):
                for coder in searched_stacks(model).values():
                    keep_best(coder, self.keep ** (r / self.rounds))
        if update_num == self.prune_at:
            for coder in searched_stacks(model).values():
                coder.alpha.mul_(1e-3 / coder.alpha.std().clamp_min(1e-12))
                self.inner.begin(coder)
                optimizer.optimizer.state.pop(coder.alpha, None)

    def valid_step(self, valid_step, sample, model, criterion):
        """Validate as the strategy that follows."""
        return self.inner.valid_step(valid_step, sample, model, criterion)

    def reduce_metrics(self, logging_outputs) -> None:
        """Log as the strategy that follows."""
        self.inner.reduce_metrics(logging_outputs)

    def state_dict(self) -> dict[str, Any]:
        """The baseline, and the state of the strategy that follows."""
        return {"baseline": self.baseline, "inner": self.inner.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue."""
        self.baseline = state["baseline"]
        if state["inner"]:
            self.inner.load_state_dict(state["inner"])
