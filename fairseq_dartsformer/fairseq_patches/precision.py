"""Types of numbers: fairseq's ``--fp16`` and ``--amp``, with and without a GPU, and numpy 2."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any
from unittest import mock

import numpy
import torch
from omegaconf import open_dict

from .patch import patch


@patch("fairseq.optim.fp16_optimizer:FP16Optimizer.build_optimizer", "cannot start")
def _do_not_flatten_on_cpu(
    build: Callable[..., Any], cls: type, cfg: Any, params: Any, **kwargs: Any
) -> Any:
    """Symptom: ``--fp16 --cpu`` fails an assertion about CUDA. Cause: fairseq allocates flat
    float32 copies only on a GPU. Can go when fairseq does not flatten without a GPU."""
    if not torch.cuda.is_available() or cfg.common.cpu:
        with open_dict(cfg.common):
            cfg.common.fp16_no_flatten_grads = True
    return build(cls, cfg, params, **kwargs)


@patch("fairseq.optim.amp_optimizer:AMPOptimizer.step", "wrong")
def _unscale_once(step: Callable[..., None], self: Any) -> None:
    """Symptom: gradients under ``--amp`` are divided by the loss scale twice. Cause: fairseq
    unscales the inner optimizer's gradients and steps the outer one; torch's scaler takes these for
    two optimizers and unscales again. Can go when fairseq passes the same one to both."""
    self.scaler.step(self.optimizer)
    self.scaler.update()


@patch("fairseq.optim.amp_optimizer:AMPOptimizer.load_state_dict", "wrong")
def _restore_wrapped(load: Callable[..., None], self: Any, state: Any, overrides: Any = None):
    """Symptom: options given at resume under ``--amp`` do not reach ``bilevel_adam``. Cause:
    fairseq restores torch's innermost optimizer. Can go when fairseq restores the optimizer that it
    wraps."""
    self.fp32_optimizer.load_state_dict(state, overrides)


@patch("fairseq.trainer:Trainer.train_step", "lost")
def _overflow_on_cpu(train_step: Callable[..., Any], self: Any, *args: Any, **kwargs: Any) -> Any:
    """Symptom: an fp16 overflow on a CPU ends in ``Torch not compiled with CUDA enabled``. Cause:
    fairseq moves a zero to the GPU. Can go when fairseq moves it to the trainer's device."""
    if self.cuda:
        return train_step(self, *args, **kwargs)
    with mock.patch.object(torch.Tensor, "cuda", lambda tensor, *_, **__: tensor):
        return train_step(self, *args, **kwargs)


@patch("fairseq.trainer:NanDetector", "lost")
def _forward_only(detector: Callable[..., Any], model: torch.nn.Module) -> Any:
    """Symptom: a training whose gradients are not finite ends in ``StopIteration`` and does not
    name the module. Cause: torch's deprecated backward hooks cannot follow the lists in an
    encoder's output. Can go when fairseq uses full backward hooks."""
    return detector(model, backward=False)


@patch("fairseq.data.token_block_dataset:TokenBlockDataset._build_slice_indices", "cannot start")
def _integers_of_numpy_2(build: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Symptom: ``--sample-break-mode eos``, and generation by a language model, end in ``module
    'numpy' has no attribute 'compat'``. Cause: numpy 2 has another name for this integer type. Can
    go when fairseq uses that name."""
    with mock.patch.object(numpy, "compat", SimpleNamespace(long=int), create=True):
        return build(*args, **kwargs)
