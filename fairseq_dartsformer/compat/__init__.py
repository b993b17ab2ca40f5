"""Workarounds for fairseq 0.12.2 and 0.12.3, and torch 2.6 and later.

Each says what was seen, why, and when it can go. :func:`apply` is called once, at import.
"""

from __future__ import annotations

from fairseq import checkpoint_utils

from . import (
    checkpoints,
    data,
    evaluation,
    iterators,
    moments,
    official,
    precision,
    resuming,
    training,
    workers,
    writing,
)
from .checkpoints import load_checkpoint
from .naming import naming
from .precision import undo_tpu

__all__ = ["apply", "load_checkpoint", "naming", "undo_tpu"]

MODULES = (
    *(checkpoints, data, evaluation, iterators, moments),
    *(official, precision, resuming, training, workers, writing),
)


def apply() -> None:
    """Put every workaround in place. Idempotent: fairseq may import the plugin twice."""
    if getattr(checkpoint_utils.load_checkpoint_to_cpu, "patched_by_dartsformer", False):
        return
    for module in MODULES:
        module.apply()
