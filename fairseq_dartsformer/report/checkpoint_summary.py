"""Progress, losses and time of training as one checkpoint records them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from ..errors import InputError


@dataclass(frozen=True)
class CheckpointSummary:
    """State of a training at one checkpoint.

    Attributes:
        path: the checkpoint's file.
        updates: number of updates so far.
        seconds: training time so far, all resumptions included; ``None`` if unknown.
        validation: validation loss in bits, or the metric that the training validates by.
        best: best value of that metric so far.
        written: time of writing in seconds since 1970.
        meters: by name, sum and weight of each training statistic in this epoch so far.
    """

    path: Path
    updates: int
    seconds: float | None
    validation: float | None
    best: float | None
    written: float
    meters: dict[str, tuple[float, float]]

    @classmethod
    def of(cls, state: Mapping[str, Any], path: Path) -> CheckpointSummary:
        """Summarise the state in a checkpoint; raise an :class:`InputError` if fairseq did not
        write it."""
        try:
            updates = int(state["optimizer_history"][-1]["num_updates"])
            dict(state["model"]), dict(state["cfg"])
            extra = dict(state.get("extra_state") or {})
            meters = {}
            for _, name, _, meter in dict(extra.get("metrics") or {}).get("train", []):
                pair = (number(meter.get("sum")), number(meter.get("count")))
                if None not in pair:
                    meters[str(name)] = pair
        except (KeyError, TypeError, AttributeError, IndexError, ValueError) as error:
            raise InputError(f"{path}: is not a checkpoint of fairseq ({error!r})") from None
        names = ("previous_training_time", "val_loss", "best")
        values = (number(extra.get(name)) for name in names)
        return cls(path, updates, *values, path.stat().st_mtime, meters)


def number(value: Any) -> float | None:
    """A finite number, or ``None`` for any other content of a file."""
    try:
        value = float(value)
    except (TypeError, ValueError, RuntimeError):
        return None
    return value if math.isfinite(value) else None


def count_parameters(model: Mapping[str, Any]) -> int:
    """Count the numbers in a model's state; tensors that share memory count once."""
    buffers = ("version", "_float_tensor")  # of fairseq's modules
    tensors = [
        tensor
        for name, tensor in model.items()
        if isinstance(tensor, Tensor) and not str(name).endswith(buffers)
    ]
    return sum(size for _, size in {(tensor.data_ptr(), tensor.numel()) for tensor in tensors})
