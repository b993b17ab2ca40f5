"""Options of fairseq's training that it does not look at before the first update."""

from __future__ import annotations

from functools import wraps

from fairseq.distributed import utils as distributed_utils
from fairseq.trainer import Trainer
from omegaconf import DictConfig

from ..errors import InputError, flag
from ..optim.bilevel_adam import read_betas

MANY = 1 << 16
# By group: an option, and the least and the most that it may be.
BOUNDS = {
    "common": {"seed": (0, 2**32 - 2), "log_interval": (1, None)},
    "optimization": {"update_freq": (1, MANY)},
    "dataset": {
        "required_batch_size_multiple": (1, MANY),
        "num_workers": (0, MANY),
        "max_tokens": (1, 2**31 - 1),
        "batch_size": (1, 2**31 - 1),
    },
}


def apply() -> None:
    """Put this workaround in place."""
    distributed_utils.call_main = _check_first(distributed_utils.call_main)
    # `fairseq-hydra-train` imports the plugin too late for `call_main`.
    Trainer.__init__ = _check_again(Trainer.__init__)


def _check_first(call_main):
    """Refuse what no training can be done with.

    Symptom: tracebacks from within the first update, or updates that never end. Goes when fairseq
    checks its options.
    """

    @wraps(call_main)
    def checked_call_main(cfg: DictConfig, *args, **kwargs):
        _check(cfg)
        return call_main(cfg, *args, **kwargs)

    return checked_call_main


def _check_again(init):
    @wraps(init)
    def checked(self: Trainer, cfg: DictConfig, *args, **kwargs) -> None:
        _check(cfg)
        init(self, cfg, *args, **kwargs)

    return checked


def _check(cfg: DictConfig) -> None:
    """Raise an :class:`InputError` for the first option that is out of its bounds."""
    for group, options in BOUNDS.items():
        for name, (least, most) in options.items():
            given = cfg[group].get(name)
            for value in given if name == "update_freq" else [given]:
                if value is not None and value < least:
                    raise InputError(f"{flag(name)} is {value}, it must be at least {least}")
                if value is not None and most is not None and value > most:
                    raise InputError(f"{flag(name)} is {value}, it must be at most {most}")
    # Older optimizers' options, such as those of sgd, are no DictConfig.
    betas = getattr(cfg.optimizer, "adam_betas", None)
    if betas is not None:
        read_betas(betas, "--adam-betas")
