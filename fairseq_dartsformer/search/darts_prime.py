"""`darts_prime`: DARTS-PRIME's three parts (Noakes et al. 2021, arXiv:2106.11655)."""

import torch
from torch.nn.functional import one_hot

from ..errors import InputError
from ..search_space.relaxation import clamp, softmax
from ..search_space.sampling import best_of_stack, searched_stacks
from .admm import ADMM
from .options import one_of
from .own_gradients import OnDemandStrategy
from .penalties import proximity

CHOICES = {
    "prime_activation": ("softmax", "clamp"),
    "prime_schedule": ("dynamic", "fixed"),
    "prime_regularizer": ("proximity", "admm", "none"),
}
RHO = 0.1
# Of the dynamic schedule: the share of the newest value in the running mean, the growth of the
# threshold, and how many times as much it shrinks when alpha moves.
MEMORY, GROWTH, SHRINKING = 0.2, 1.05, 10
STATE = ("information", "threshold", "due")


class DARTSPrime(OnDemandStrategy):
    """alpha moves when the weights' gradients are small, and is drawn to a discrete choice.

    - ``--prime-schedule dynamic``: alpha moves when a running mean of the squared norm of the
      weights' gradient, an estimate of the Fisher information, is below a threshold that shrinks
      with each of alpha's steps and grows otherwise.
    - ``--prime-regularizer proximity`` adds `t/T · ρ/2 ‖W - disc(W)‖`; ``admm`` adds
      `ρ/2 ‖W - Z + U‖` with dual variable U.
    - ``--prime-activation clamp`` mixes by alpha clamped to [0, 1]; a candidate at 0 is pruned.
    """

    name = "darts_prime"
    options = (*OnDemandStrategy.options, *CHOICES)

    def check(self) -> None:
        """Read the three parts."""
        super().check()
        for name, choices in CHOICES.items():
            setattr(self, name.removeprefix("prime_"), one_of(self.cfg, name, choices))
        self.information, self.threshold, self.due = 0.0, 1.0, False
        self.admm = ADMM()
        if self.schedule == "dynamic" and self.cfg.arch_interval is not None:
            raise InputError(
                f"--arch-interval is {self.cfg.arch_interval}, which needs --prime-schedule fixed"
            )
        given = any(penalty is proximity for _, penalty in self.penalties)
        if self.regularizer == "proximity" and not given:
            self.penalties.append((RHO, proximity))
            self.progress(0)  # reports a search without an end
        if self.regularizer == "admm":
            self.penalties.append((RHO, self.admm))

    def move_always(self) -> None:
        """Do not wait for small gradients."""
        super().move_always()
        self.schedule = "fixed"

    @classmethod
    def relaxation(cls, cfg):
        """softmax, or the bounded activation."""
        return clamp if cfg.get("prime_activation") == "clamp" else softmax

    def prepare(self, model) -> None:
        """Give alpha its first values."""
        super().prepare(model)
        for coder in searched_stacks(model).values():
            self.begin(coder)

    @torch.no_grad()
    def begin(self, coder) -> None:
        """Begin the bounded activation where all candidates have the same weight, nearly."""
        if self.activation == "clamp":
            noise = torch.randn(coder.alpha.shape).to(coder.alpha)
            coder.alpha.copy_(1 / coder.alpha.size(-1) + 1e-4 * noise)

    def moves_alpha(self, update_num: int) -> bool:
        """As the schedule says."""
        if self.schedule == "fixed":
            return super().moves_alpha(update_num)
        return self.due and update_num >= self.arch_start

    @torch.no_grad()
    def after_update(self, model, optimizer, update_num) -> None:
        """Advance the schedule and the dual variable, and prune."""
        moved = self.moves_alpha(update_num - 1)
        super().after_update(model, optimizer, update_num)
        newest = float(optimizer.optimizer.gradient_norm) ** 2
        self.information = MEMORY * newest + (1 - MEMORY) * (self.information or newest)
        if update_num >= self.arch_start:
            self.due = 0 < self.information < self.threshold
            self.threshold *= GROWTH ** (-SHRINKING if self.due else 1)
        if not moved:
            return
        coders = searched_stacks(model)
        for coder in coders.values() if self.activation == "clamp" else ():
            scores = coder.scores
            best = one_hot(best_of_stack(coder, self.exclude), scores.size(-1)).bool()
            dead = (scores <= 0).all(-1, keepdim=True)
            coder.alpha.masked_fill_(best & dead, 1 / coder.alpha.size(-1))
            coder.keep((scores > 0) | best)
        if self.regularizer == "admm":
            self.admm.step(coders)

    def state_dict(self):
        """Everything that the next update depends on."""
        own = {name: getattr(self, name) for name in STATE}
        return super().state_dict() | own | vars(self.admm)

    def load_state_dict(self, state) -> None:
        """Continue."""
        super().load_state_dict(state)
        for name in STATE:
            setattr(self, name, state[name])
        for name in vars(self.admm):
            setattr(self.admm, name, state[name])
