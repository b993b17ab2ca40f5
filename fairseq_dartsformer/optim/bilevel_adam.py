"""`bilevel_adam`: one Adam for the weights, one for alpha (Algorithm 2, Section 3.2)."""

import ast
import math
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any, List

import torch
from fairseq.dataclass import FairseqDataclass
from fairseq.distributed import LegacyDistributedDataParallel
from fairseq.optim import FairseqOptimizer, register_optimizer
from omegaconf import II

from ..errors import InputError, flag
from ..models.config import option
from ..search_space.levels import ALPHA, LEVELS, WEIGHTS, gradients_for, level_of

BUFFER_SIZE = 2**28  # numbers that `legacy_ddp` sends at once, as in fairseq


@dataclass
class BilevelAdamConfig(FairseqDataclass):
    """Options; those of the weights have the names of fairseq's `adam`."""

    adam_betas: Any = option((0.9, 0.98), "betas of the weights' Adam")
    adam_eps: float = option(1e-8, "epsilon of both Adams")
    weight_decay: float = option(0.0, "weight decay of the weights, decoupled as in fairseq's adam")
    arch_lr: float = option(3e-4, "learning rate of alpha, fixed")
    arch_adam_betas: Any = option((0.9, 0.98), "betas of alpha's Adam")
    arch_weight_decay: float = option(
        1e-3, "weight decay of alpha, L2 in the gradient, as in DARTS"
    )
    lr: List[float] = II("optimization.lr")


@register_optimizer("bilevel_adam", dataclass=BilevelAdamConfig)
class BilevelAdam(FairseqOptimizer):
    """Two Adam optimizers; each update steps one of them, or both.

    The strategy sets the levels (``SearchStrategy.updating``). The other level's parameters and
    moments do not change, whatever its gradients. The schedule sets only the weights' rate.

    Args:
        cfg: options.
        params: the parameters or their float32 copies, among them alpha.

    Raises:
        InputError: ``params`` has no alpha, or an option is out of range.
    """

    def __init__(self, cfg: BilevelAdamConfig, params: Iterable[torch.nn.Parameter]):
        super().__init__(cfg)
        options = self._options()
        levels: dict[str, list[torch.nn.Parameter]] = {level: [] for level in LEVELS}
        for parameter in params:
            levels[level_of(parameter)].append(parameter)
        if not levels[ALPHA]:
            raise InputError(
                "--optimizer bilevel_adam needs a supernet (--arch dartsformer_search): this model "
                "has no alpha"
            )
        self._optimizer = LevelAdam(
            [{"params": levels[level], "level": level, **options[level]} for level in LEVELS],
            fused=True,
        )

    def _options(self) -> dict[str, dict[str, Any]]:
        """Options of each level's parameter group."""
        cfg = self.cfg
        lr = cfg.lr[0] if isinstance(cfg.lr, Collection) else cfg.lr
        for name in ("arch_lr", "arch_weight_decay", "weight_decay", "adam_eps"):
            if not 0 <= getattr(cfg, name) < math.inf:
                raise InputError(
                    f"{flag(name)} is {getattr(cfg, name)}, it must be a finite number from 0"
                )
        weights = {
            "lr": lr,
            "betas": read_betas(cfg.adam_betas, "--adam-betas"),
            "weight_decay": cfg.weight_decay,
            "decoupled_weight_decay": True,
        }
        alpha = {
            "lr": cfg.arch_lr,
            "fixed_lr": cfg.arch_lr,
            "betas": read_betas(cfg.arch_adam_betas, "--arch-adam-betas"),
            "weight_decay": cfg.arch_weight_decay,
            "decoupled_weight_decay": False,
        }
        return {WEIGHTS: weights | {"eps": cfg.adam_eps}, ALPHA: alpha | {"eps": cfg.adam_eps}}

    @property
    def optimizer_config(self) -> dict[str, Any]:
        """The weights' options, which ``--optimizer-overrides`` may replace."""
        return self._options()[WEIGHTS]

    def all_reduce_grads(self, module: torch.nn.Module) -> None:
        """Average over workers only the gradients of the levels that this update steps."""
        with gradients_for(module, self._optimizer.levels):
            for legacy in module.modules():
                if isinstance(legacy, LegacyDistributedDataParallel):
                    # It sends its complete buffer, which has room for all parameters.
                    size = sum(p.numel() for p in legacy.parameters() if p.requires_grad)
                    legacy.buffer, legacy.buffer_size = None, min(size, BUFFER_SIZE)
            super().all_reduce_grads(module)

    def clip_grad_norm(self, max_norm: float, aggregate_norm_fn=None) -> torch.Tensor:
        """Clip as fairseq does, and keep the norm before it as ``optimizer.gradient_norm``."""
        norm = super().clip_grad_norm(max_norm, aggregate_norm_fn)
        self._optimizer.gradient_norm = norm
        return norm

    def set_lr(self, lr: float) -> None:
        """Set the weights' learning rate; alpha's is fixed."""
        self.param_groups[0]["lr"] = lr

    def load_state_dict(self, state_dict, optimizer_overrides=None) -> None:
        """Restore moments and the weights' learning rate, which some schedules store only there;
        the other options are this run's."""
        super().load_state_dict(state_dict)
        options = self._options()
        del options[WEIGHTS]["lr"]
        for group in self.param_groups:
            group.update(options[group["level"]])
        self.param_groups[0].update(optimizer_overrides or {})


class LevelAdam(torch.optim.Adam):
    """Adam that steps only the parameter groups of the current levels.

    Attributes:
        levels: the levels that the next step updates.
        gradient_norm: of the last update's gradients before they were clipped.
    """

    levels: tuple[str, ...] = ()
    gradient_norm: torch.Tensor | float = 0.0

    def step(self, closure=None):
        """Step the groups of :attr:`levels`; raise an :class:`InputError` if they were not set."""
        if not self.levels:
            raise InputError(
                "--optimizer bilevel_adam needs a search task, such as translation_search, and a "
                "--search-strategy that sets the levels of each update (SearchStrategy.updating): "
                "no level was set for this update"
            )
        groups = self.param_groups
        for group in groups:
            # torch's schedulers change every group.
            group["lr"] = group.get("fixed_lr", group["lr"])
        self.param_groups = [group for group in groups if group["level"] in self.levels]
        try:
            return super().step(closure)
        finally:
            self.param_groups = groups


def read_betas(betas: Any, name: str) -> tuple[float, float]:
    """Read the betas, a pair or its text, of the option ``name``; raise an :class:`InputError` if
    they are not two numbers in [0, 1)."""
    try:
        pair = ast.literal_eval(betas) if isinstance(betas, str) else betas
        first, second = map(float, pair)
    except (ValueError, SyntaxError, TypeError, OverflowError, MemoryError, RecursionError) as bad:
        raise InputError(f"{name} is {betas!r}, it must be a pair such as (0.9, 0.98)") from bad
    if not (0 <= first < 1 and 0 <= second < 1):
        raise InputError(f"{name} is {betas!r}, both must lie in [0, 1)")
    return first, second
