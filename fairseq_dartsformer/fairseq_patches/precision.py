"""Half precision: fairseq's ``--fp16``, ``--bf16`` and ``--amp``, with and without a GPU."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import torch
from fairseq.nan_detector import NanDetector
from omegaconf import open_dict

from .patch import Patch


def _without_flat_parameters(build: Callable[..., Any]):
    """Symptom: ``--fp16 --cpu`` asserts CUDA. Cause: fairseq's flat float32 copies are allocated
    there. Can go when it does not flatten without a GPU."""

    def build_optimizer(cls, cfg, params, **kwargs: Any):
        if not torch.cuda.is_available() or cfg.common.cpu:
            with open_dict(cfg.common):
                cfg.common.fp16_no_flatten_grads = True
        return build(cls, cfg, params, **kwargs)

    return build_optimizer


def _amp_step(step: Callable[..., None]):
    """Symptom: gradients under ``--amp`` are divided by the loss scale twice. Cause: fairseq
    unscales the inner optimizer's gradients and steps the outer optimizer, and torch's scaler,
    which tells the two apart, unscales again. Can go when fairseq passes the same one to both."""

    def step_once(self) -> None:
        self.scaler.step(self.optimizer)
        self.scaler.update()

    return step_once


def _amp_load_state_dict(load: Callable[..., None]):
    """Symptom: options given at resume under ``--amp`` do not reach `bilevel_adam`. Cause: fairseq
    restores the innermost torch optimizer. Can go when it asks the optimizer that it wraps."""

    def load_state_dict(self, state_dict: dict[str, Any], optimizer_overrides: Any = None) -> None:
        self.fp32_optimizer.load_state_dict(state_dict, optimizer_overrides)

    return load_state_dict


def _overflow_on_cpu(train_step: Callable[..., Any]):
    """Symptom: ``Torch not compiled with CUDA enabled`` at an fp16 overflow on a CPU. Cause: the
    handler moves a zero to the GPU. Can go when it moves it to the trainer's device."""

    def step(self, samples: Any, *args: Any, **kwargs: Any):
        if self.cuda:
            return train_step(self, samples, *args, **kwargs)
        cuda = torch.Tensor.cuda
        torch.Tensor.cuda = lambda tensor, *args, **kwargs: tensor
        try:
            return train_step(self, samples, *args, **kwargs)
        finally:
            torch.Tensor.cuda = cuda

    return step


def _forward_nan_detector(detector: type[NanDetector]):
    """Symptom: a training whose gradients are not finite ends in ``StopIteration``, without the
    module where it began. Cause: torch's old kind of hooks on the backward pass cannot follow the
    lists in an encoder's output. Can go when fairseq uses full backward hooks."""

    def nan_detector(model: torch.nn.Module) -> NanDetector:
        return detector(model, backward=False)

    return nan_detector


def undo_tpu(args: argparse.Namespace) -> None:
    """Let ``--bf16`` on the command line mean bf16; every architecture calls it, no patch.

    Symptom: ``NoneType has no attribute xla_device``. Cause: fairseq takes ``--bf16`` for a wish to
    run on a TPU. Can go when fairseq asks for ``--tpu``.
    """
    if getattr(args, "bf16", False) and find_spec("torch_xla") is None:
        args.tpu = False


AMP = "fairseq.optim.amp_optimizer:AMPOptimizer"
PATCHES = (
    Patch(
        "fairseq.optim.fp16_optimizer:FP16Optimizer.build_optimizer",
        "cannot start",
        _without_flat_parameters,
    ),
    Patch(f"{AMP}.step", "wrong", _amp_step),
    Patch(f"{AMP}.load_state_dict", "wrong", _amp_load_state_dict),
    Patch("fairseq.trainer:Trainer.train_step", "lost", _overflow_on_cpu),
    Patch("fairseq.trainer:NanDetector", "lost", _forward_nan_detector),
)
