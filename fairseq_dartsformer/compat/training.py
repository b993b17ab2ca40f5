"""Options of fairseq's training that it does not look at before the first update."""

from __future__ import annotations

import sys
from functools import wraps

from fairseq.distributed import utils as distributed_utils
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
    # `fairseq-hydra-train` imports the plugin after that, and then calls this.
    if command := sys.modules.get("fairseq_cli.train"):
        command.add_defaults = _check_first(command.add_defaults)


def _check_first(function):
    """Refuse what no training can be done with.

    Symptoms: tracebacks from within the first update, updates that never end, or a training that
    ends with status 0 before it has begun. Goes when fairseq checks its options.
    """

    @wraps(function)
    def checked(cfg: DictConfig, *args, **kwargs):
        _check(cfg)
        return function(cfg, *args, **kwargs)

    return checked


def _check(cfg: DictConfig) -> None:
    """Raise an :class:`InputError` for the first option that is not what it may be."""
    if cfg.checkpoint.write_checkpoints_asynchronously:
        raise InputError(
            "--write-checkpoints-asynchronously (--save-async) must be left out: whoever is killed "
            "while writing so is left with half a checkpoint"
        )
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
