"""Records a training step by step, from inside its process."""

from __future__ import annotations

import io
import os
import shutil
import signal
import time
from dataclasses import dataclass
from typing import Any, BinaryIO

import torch
from fairseq.trainer import Trainer
from torch import Tensor

from fairseq_dartsformer.search_space.levels import LEVELS, level_of

PIECES = 20  # of a file that is written slowly


@dataclass
class Step:
    """The state after a call of the trainer's ``train_step``; the first one is the start.

    Attributes:
        level: the update's levels, joined by a plus, ``None`` for a derived model.
        updates: number of updates so far; an overflow is none.
        loss: mean loss of the update's words in bits, ``None`` after an overflow.
        lr: learning rates of the optimizer's groups.
        state: for each level, vectors over its parameters: their ``value``, their ``master`` copy
            in the optimizer, its ``gradient`` (0 if there is none), and Adam's moments
            (0 if there are none).
    """

    level: str | None
    updates: int
    loss: float | None
    lr: list[float]
    state: dict[str, dict[str, Tensor]]

    @classmethod
    def of(cls, trainer, log: dict[str, Any] | None) -> Step:
        optimizer = trainer.optimizer
        masters = {}
        if hasattr(optimizer, "fp16_params"):
            pairs = zip(optimizer.fp16_params, optimizer.fp32_params, strict=True)
            masters = {id(half): single for half, single in pairs}
        parts: dict[str, dict[str, list[Tensor]]] = {level: {} for level in LEVELS}
        for parameter in trainer.get_model().parameters():
            master = masters.get(id(parameter), parameter)
            gradient = torch.zeros_like(master) if master.grad is None else master.grad
            moments = optimizer.optimizer.state.get(master) or {
                "step": 0,
                "exp_avg": torch.zeros_like(master),
                "exp_avg_sq": torch.zeros_like(master),
            }
            values = {"value": parameter, "master": master, "gradient": gradient, **moments}
            of_level = parts[level_of(parameter)]
            for name, value in values.items():
                of_level.setdefault(name, []).append(torch.as_tensor(value).detach().flatten())
        return cls(
            level="+".join(getattr(optimizer.optimizer, "levels", ())) or None,
            updates=trainer.get_num_updates(),
            loss=None if log is None else float(log["loss"]),
            lr=[group["lr"] for group in optimizer.param_groups],
            state={
                level: {name: torch.cat(values) for name, values in of_level.items()}
                for level, of_level in parts.items()
            },
        )


def watch(steps: list[Step] | None, kill_after: int | None) -> None:
    """Append the start and every step to ``steps``; kill the process after so many updates."""
    train_step = Trainer.train_step

    def watched(self: Trainer, *arguments, **options):
        if steps == []:
            steps.append(Step.of(self, None))
        log = train_step(self, *arguments, **options)
        if steps is not None:
            steps.append(Step.of(self, log))
        if self.get_num_updates() == kill_after:
            os.kill(os.getpid(), signal.SIGKILL)
        return log

    Trainer.train_step = watched


def write_slowly(seconds: float) -> None:
    """Let the writing and copying of a checkpoint take this long."""
    save = torch.save

    def save_slowly(content: Any, file: BinaryIO) -> None:
        buffer = io.BytesIO()
        save(content, buffer)
        pour(buffer.getvalue(), file)

    def copy_slowly(source: str, target: str) -> str:
        with open(source, "rb") as content, open(target, "wb") as file:
            pour(content.read(), file)
        return target

    def pour(content: bytes, file: BinaryIO) -> None:
        step = len(content) // PIECES + 1
        for begin in range(0, len(content), step):
            file.write(content[begin : begin + step])
            file.flush()
            time.sleep(seconds / PIECES)

    torch.save, shutil.copyfile = save_slowly, copy_slowly
