"""What one checkpoint of a training says."""

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
    """What one checkpoint says of the training so far.

    Attributes:
        path: of the file.
        updates: so far.
        seconds: of training so far, over all its resumptions; ``None`` if unknown.
        validation: the loss of validation in bits, or what the training validates by.
        best: the best of these so far.
        written: when, in seconds since 1970.
        meters: sum and weight of the training's statistics in this epoch so far, by name.
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
        """Of a checkpoint's state.

        Raises:
            InputError: it is not as fairseq writes it.
        """
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
            raise InputError(
                f"{path}: is not a checkpoint as fairseq writes it ({error!r})"
            ) from None
        return cls(
            path,
            updates,
            number(extra.get("previous_training_time")),
            number(extra.get("val_loss")),
            number(extra.get("best")),
            path.stat().st_mtime,
            meters,
        )


def number(value: Any) -> float | None:
    """A finite number, or none: what a file holds may be anything."""
    try:
        number = float(value)
    except (TypeError, ValueError, RuntimeError):
        return None
    return number if math.isfinite(number) else None


def count_parameters(model: Mapping[str, Any]) -> int:
    """Numbers in a model's state, those that two of its parts share once."""
    marks = ("version", "_float_tensor")  # of fairseq's modules, which are no parameters
    tensors = (
        value
        for name, value in model.items()
        if isinstance(value, Tensor) and not str(name).endswith(marks)
    )
    return sum(size for _, size in {(tensor.data_ptr(), tensor.numel()) for tensor in tensors})
