"""`prune_then_search`: reinforcement prunes candidates, then another strategy searches.

After the abstract of RADARS (Yan et al. 2021, arXiv:2109.05691), whose code is not public.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import torch

from ..errors import InputError
from ..search_space.sampling import parameters_pruned, searched_stacks
from .followed import Followed
from .options import at_least
from .policy import Policy
from .pruning import check_memory, prune, share_that_fits, share_to_keep

# From fairseq's configuration of the search, the number of symbols, the name of the strategy that
# follows, and the share of candidates that remain, to the peak of its updates in bytes.
Planner = Callable[[Any, int, str, float], int]


class PruneThenSearch(Followed, Policy):
    """First alpha is a policy that draws one candidate for each node; then candidates are few.

    Until ``--prune-at``, the updates are those of :class:`Policy`. In ``--prune-rounds`` rounds,
    evenly spread over those that move alpha, the least probable candidates are pruned, down to the
    share ``--prune-keep`` or to as many as fit ``--prune-memory``; Adam forgets their moments. Then
    alpha shrinks to the scale that it had at first, and ``--then-strategy`` searches what remains
    with the trained weights.

    Attributes:
        planner: plans the memory of the strategy that follows; the package sets it.
        keep: the share; ``None`` until it is planned.
    """

    name = "prune_then_search"
    own = (*Followed.own, "prune_at", "prune_keep", "prune_memory", "prune_rounds")
    planner: ClassVar[Planner]

    def check(self) -> None:
        """Read when and how much to prune."""
        super().check()
        cfg = self.cfg
        check_memory(cfg.prune_memory, cfg.prune_keep, self.inner)
        self.keep = share_to_keep(cfg) if cfg.prune_memory is None else None
        self.rounds = at_least(cfg, "prune_rounds", 1, 4)
        self.progress(0)  # reports a search without an end
        self.prune_at = at_least(cfg, "prune_at", 1, max(1, cfg.max_update // 3))
        if self.prune_at <= self.arch_start:
            raise InputError(
                f"--prune-at is {self.prune_at} and --arch-start is {self.arch_start}: alpha must "
                "move before it prunes, so --prune-at must be larger"
            )

    def prepare(self, model) -> None:
        """Count the candidates."""
        super().prepare(model)
        self.candidates = max(c.alpha.size(-1) for c in searched_stacks(model).values())

    def batches(self, task, dataset, make, **arguments):
        """Plan how many candidates fit, before the first batch."""
        if self.keep is None:
            symbols = max(len(task.source_dictionary), len(task.target_dictionary))

            def peak(share: float) -> int:
                return type(self).planner(self.cfg._get_root(), symbols, self.inner.name, share)

            self.keep = share_that_fits(peak, self.cfg.prune_memory, self.candidates)
        return super().batches(task, dataset, make, **arguments)

    def train_step(self, train_step, sample, model, criterion, optimizer, update_num, ignore_grad):
        """As the policy, or as the strategy that follows."""
        step = self.inner.train_step if update_num >= self.prune_at else super().train_step
        return step(train_step, sample, model, criterion, optimizer, update_num, ignore_grad)

    def before_optimizer_step(self, model, optimizer, update_num) -> None:
        """As the policy, or as the strategy that follows."""
        follows = update_num >= self.prune_at
        step = self.inner.before_optimizer_step if follows else super().before_optimizer_step
        step(model, optimizer, update_num)

    @torch.no_grad()
    def after_update(self, model, optimizer, update_num) -> None:
        """Prune; shrink alpha."""
        if update_num > self.prune_at:
            self.inner.after_update(model, optimizer, update_num)
            return
        super().after_update(model, optimizer, update_num)
        state = optimizer.optimizer.state
        learning = self.prune_at - self.arch_start
        for r in range(1, self.rounds + 1):
            if update_num == self.arch_start + max(1, learning * r // self.rounds):
                prune(model, self.keep ** (r / self.rounds), self.exclude)
                for parameter in parameters_pruned(model):
                    state.pop(parameter, None)
        if update_num == self.prune_at:
            for coder in searched_stacks(model).values():
                coder.alpha.mul_(1e-3 / coder.alpha.std().clamp_min(1e-12))
                self.inner.begin(coder)
                state.pop(coder.alpha, None)
