"""Half precision: fairseq's ``--fp16``, ``--bf16`` and ``--amp``, with and without a GPU."""

from __future__ import annotations

import argparse
from functools import wraps
from importlib.util import find_spec
from typing import Any

import torch
from fairseq import trainer
from fairseq.nan_detector import NanDetector
from fairseq.optim import AMPOptimizer, FP16Optimizer
from fairseq.trainer import Trainer
from omegaconf import open_dict

from ..search_space import is_alpha


def apply() -> None:
    """Put these workarounds in place."""
    FP16Optimizer.build_optimizer = classmethod(
        _without_flat_params(FP16Optimizer.build_optimizer.__func__)
    )
    AMPOptimizer.step = _amp_step
    AMPOptimizer.load_state_dict = _amp_load_state_dict
    Trainer.train_step = _overflow_on_cpu(Trainer.train_step)
    trainer.NanDetector = _forward_nan_detector


def _without_flat_params(build_optimizer):
    """``--fp16`` without flat float32 copies where these cannot be.

    Symptoms: fairseq asserts CUDA under ``--fp16 --cpu``, and refuses an optimizer that treats
    parameters apart, as `bilevel_adam` does. Goes when fairseq does not flatten in these cases.
    """

    @wraps(build_optimizer)
    def build(cls, cfg, params, **kwargs):
        bilevel = any(is_alpha(p) for p in params)
        if bilevel or not torch.cuda.is_available() or cfg.common.cpu:
            with open_dict(cfg.common):
                cfg.common.fp16_no_flatten_grads = True
        return build_optimizer(cls, cfg, params, **kwargs)

    return build


def _amp_step(self: AMPOptimizer) -> None:
    """Step under ``--amp`` with gradients unscaled once.

    Symptom: gradients arrive divided by the loss scale squared, which L2 decay then outweighs.
    Cause: fairseq unscales the inner optimizer's gradients and steps the outer one, and torch's
    scaler, which tells them apart, unscales again. Goes when fairseq hands it one of the two.
    """
    self.scaler.step(self.optimizer)
    self.scaler.update()


def _amp_load_state_dict(
    self: AMPOptimizer, state_dict: dict[str, Any], optimizer_overrides: Any = None
) -> None:
    """Restore under ``--amp`` what the optimizer itself restores.

    Symptom: options given at resume do not reach `bilevel_adam`. Cause: fairseq restores the
    innermost torch optimizer. Goes when it asks the optimizer that it wraps, as under ``--fp16``.
    """
    self.fp32_optimizer.load_state_dict(state_dict, optimizer_overrides)


def _forward_nan_detector(model: torch.nn.Module) -> NanDetector:
    """Look for what is not finite in the forward pass alone.

    Symptom: a training whose gradients are not finite ends in ``StopIteration``. Cause: torch's old
    kind of hooks on the backward pass cannot follow the lists in an encoder's output. Goes when
    fairseq takes full backward hooks.
    """
    return NanDetector(model, backward=False)


def _overflow_on_cpu(train_step):
    """Survive an fp16 overflow without a GPU.

    Symptom: ``Torch not compiled with CUDA enabled``. Cause: the handler moves a zero to the GPU.
    Goes when it moves it to the trainer's device.
    """

    @wraps(train_step)
    def step(self: Trainer, samples, *args, **kwargs):
        if self.cuda:
            return train_step(self, samples, *args, **kwargs)
        cuda = torch.Tensor.cuda
        torch.Tensor.cuda = lambda tensor, *args, **kwargs: tensor
        try:
            return train_step(self, samples, *args, **kwargs)
        finally:
            torch.Tensor.cuda = cuda

    return step


def undo_tpu(args: argparse.Namespace) -> None:
    """Let ``--bf16`` on the command line mean bf16.

    Symptom: ``NoneType has no attribute xla_device``. Cause: fairseq takes ``--bf16`` for a wish to
    run on a TPU. Called by every architecture, which see the parsed options last. Goes when fairseq
    asks for ``--tpu``.
    """
    if getattr(args, "bf16", False) and find_spec("torch_xla") is None:
        args.tpu = False
