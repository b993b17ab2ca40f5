"""A search is watched while it runs: what alpha says, whether it collapses, whether it is finite.

fairseq asks tasks about single batches; what is watched here is known to its trainer alone, whose
updates and checkpoints :func:`install` therefore wraps. Other tasks than the search's see nothing
of it.
"""

from __future__ import annotations

from functools import wraps

from fairseq import checkpoint_utils
from fairseq.trainer import Trainer

from .watch import SearchWatch

__all__ = ["SearchWatch", "install"]


def install() -> None:
    """Have every search watched. Idempotent: fairseq may import the plugin twice."""
    if getattr(Trainer.train_step, "watches_searches", False):
        return
    Trainer.train_step = _watched_update(Trainer.train_step)
    checkpoint_utils.save_checkpoint = _finite_checkpoint(checkpoint_utils.save_checkpoint)


def _watch_of(trainer: Trainer) -> SearchWatch | None:
    return getattr(trainer.task, "watch", None)


def _watched_update(train_step):
    """An update that the search's watch knows of."""

    @wraps(train_step)
    def step(self: Trainer, samples, *args, **kwargs):
        watch = _watch_of(self)
        if watch is None:
            return train_step(self, samples, *args, **kwargs)
        return watch.update(self, samples, lambda: train_step(self, samples, *args, **kwargs))

    step.watches_searches = True
    return step


def _finite_checkpoint(save_checkpoint):
    """Never write a search's checkpoint over an older one when its own numbers are not finite."""

    @wraps(save_checkpoint)
    def save(cfg, trainer, *args, **kwargs):
        watch = _watch_of(trainer)
        if watch is not None:
            watch.check_finite(trainer)
        return save_checkpoint(cfg, trainer, *args, **kwargs)

    return save
