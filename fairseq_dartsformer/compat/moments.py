"""Restoring an optimizer: what a checkpoint says of it, checked before the first step."""

from __future__ import annotations

from functools import wraps
from numbers import Real
from reprlib import repr as shown
from typing import Any

import torch
from fairseq.optim import FairseqOptimizer
from fairseq.optim.adam import Adam
from torch import Tensor

MOMENTS = ("exp_avg", "exp_avg_sq")  # of Adam, in every implementation


def apply() -> None:
    """Put this workaround in place."""
    FairseqOptimizer.load_state_dict = _check_restored(FairseqOptimizer.load_state_dict)


def _check_restored(load):
    """Compare what was restored with what was built.

    Symptom: a checkpoint whose moments or options are not an optimizer's ends in a traceback at the
    first step. Cause: torch takes whatever it is given. Goes when it looks.

    Raises:
        ValueError: it is none; reading the checkpoint names the file.
    """

    @wraps(load)
    def load_state_dict(self: FairseqOptimizer, state_dict, optimizer_overrides=None) -> None:
        built = [dict(group) for group in self.param_groups]
        load(self, state_dict, optimizer_overrides)
        for before, after in zip(built, self.param_groups, strict=True):
            for name in before.keys() - {"params"}:
                if name not in after or _kind(after[name]) != _kind(before[name]):
                    raise ValueError(
                        f"the optimizer's {name} is {shown(after.get(name))}, not such as "
                        f"{shown(before[name])}"
                    )
        for parameter, state in self.optimizer.state.items():
            _check_moments(self.optimizer, parameter, state)

    return load_state_dict


def _kind(value: Any) -> Any:
    """What two values of one option have in common; of tuples and lists no difference is made."""
    if isinstance(value, bool) or value is None or isinstance(value, str):
        return type(value)
    if isinstance(value, tuple | list):
        return [_kind(part) for part in value]
    if isinstance(value, Tensor):
        return value.shape
    return Real if isinstance(value, Real) else type(value)


def _check_moments(optimizer: torch.optim.Optimizer, parameter: Tensor, state: Any) -> None:
    if not isinstance(state, dict) or not all(
        isinstance(value, Tensor | Real | None) for value in state.values()
    ):
        raise ValueError(f"the optimizer's state of a parameter is {shown(state)}")
    if not state or not isinstance(optimizer, torch.optim.Adam | Adam):
        return
    step = state.get("step")
    if step is None or (isinstance(step, Tensor) and step.numel() != 1) or not step >= 0:
        raise ValueError(f"the optimizer's step is {shown(step)}")
    for name in MOMENTS:
        moment = state.get(name)
        if not isinstance(moment, Tensor) or moment.shape != parameter.shape or moment.is_meta:
            raise ValueError(
                f"the optimizer's {name} is {shown(getattr(moment, 'shape', moment))}, of a "
                f"parameter of shape {tuple(parameter.shape)}"
            )
