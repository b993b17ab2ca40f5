"""Workarounds for fairseq 0.12.3 and torch 2.6 and later.

Each says what was seen, why, and when it can go. :func:`apply` is called once, at import.
"""

from __future__ import annotations

import argparse
import os
import pickle
import re
import struct
import zipfile
from argparse import Namespace
from functools import wraps
from importlib.util import find_spec
from typing import Any

import numpy
import torch
from fairseq import checkpoint_utils, trainer
from fairseq.distributed import utils as distributed_utils
from fairseq.file_io import PathManager
from fairseq.models import distributed_fairseq_model
from fairseq.nan_detector import NanDetector
from fairseq.optim import AMPOptimizer, FP16Optimizer
from fairseq.trainer import Trainer
from omegaconf import open_dict
from torch.nn.parallel import DistributedDataParallel

from .errors import InputError
from .search_space import is_alpha


def apply() -> None:
    """Put every workaround in place. Idempotent: fairseq may import the plugin twice."""
    if getattr(checkpoint_utils.load_checkpoint_to_cpu, "patched_by_dartsformer", False):
        return
    torch.serialization.add_safe_globals(_safe_globals())
    checkpoint_utils.load_checkpoint_to_cpu = _name_bad_file(
        checkpoint_utils.load_checkpoint_to_cpu
    )
    PathManager.copy = staticmethod(_copy_whole(PathManager.copy))
    distributed_fairseq_model.DistributedDataParallel = _distributed_data_parallel
    distributed_utils.all_gather_list = _all_gather_list(distributed_utils.all_gather_list)
    distributed_utils._broadcast_object_slow = _broadcast_object
    distributed_utils.call_main = _refuse_empty_spawn(distributed_utils.call_main)
    FP16Optimizer.build_optimizer = classmethod(
        _without_flat_params(FP16Optimizer.build_optimizer.__func__)
    )
    AMPOptimizer.step = _amp_step
    AMPOptimizer.load_state_dict = _amp_load_state_dict
    Trainer.train_step = _overflow_on_cpu(Trainer.train_step)
    trainer.NanDetector = _forward_nan_detector


def _safe_globals() -> list[Any]:
    """What fairseq puts into checkpoints besides tensors and plain types.

    Symptom: ``WeightsUnpickler error: Unsupported global`` at resume and generation. Cause: torch
    2.6 and later load tensors and plain types alone, so that a checkpoint cannot run code. Allowing
    these few keeps it so. Goes when fairseq saves plain types.
    """
    array = numpy._core.multiarray if hasattr(numpy, "_core") else numpy.core.multiarray
    dtypes = {type(numpy.dtype(code)) for code in "?bBhHiIlLqQefdg"}
    return [Namespace, numpy.ndarray, numpy.dtype, array.scalar, array._reconstruct, *dtypes]


def _name_bad_file(load):
    """Turn a missing or damaged file's traceback into one line that names the file.

    Symptom: a truncated checkpoint ends in ``PytorchStreamReader failed``. Goes when fairseq says
    which file it could not read.
    """

    # What torch and pickle were seen to raise on cut files and flipped bytes, and fairseq on files
    # that are not its own.
    unreadable = (
        RuntimeError,
        EOFError,
        zipfile.BadZipFile,
        pickle.UnpicklingError,
        LookupError,
        TypeError,
        ValueError,
        AttributeError,
        struct.error,
    )

    @wraps(load)
    def load_checkpoint_to_cpu(path: str, *args, **kwargs) -> dict[str, Any]:
        try:
            return load(path, *args, **kwargs)
        except OSError as error:
            raise InputError(f"checkpoint {path} cannot be read: {error.strerror}") from error
        except unreadable as error:
            # torch goes on with advice that is of no use here.
            reason = re.split(r"\n|\. ", str(error))[0] or type(error).__name__
            raise InputError(
                f"checkpoint {path} is damaged, truncated, or not fairseq's: {reason}"
            ) from error

    load_checkpoint_to_cpu.patched_by_dartsformer = True
    return load_checkpoint_to_cpu


def _copy_whole(copy):
    """Copy a checkpoint wholly or not at all.

    Symptom: a training killed at the wrong moment cannot go on: ``checkpoint_last.pt`` is cut
    short. Cause: fairseq writes a checkpoint beside its place and renames it, but not the copies
    that it makes of it. Goes when it does.
    """

    @wraps(copy)
    def copy_whole(src_path: str, dst_path: str, overwrite: bool = False):
        if not PathManager.supports_rename(dst_path):
            return copy(src_path, dst_path, overwrite=overwrite)
        copied = copy(src_path, f"{dst_path}.tmp", overwrite=True)
        PathManager.rename(f"{dst_path}.tmp", dst_path)
        return copied

    return copy_whole


def load_checkpoint(path: str) -> dict[str, Any]:
    """A checkpoint's state, on the CPU; runs no code from it.

    Raises:
        InputError: the file is missing, damaged, or holds more than tensors and plain types.
    """
    return checkpoint_utils.load_checkpoint_to_cpu(path)


def _distributed_data_parallel(
    module: torch.nn.Module, device_ids=None, output_device=None, **kwargs
) -> DistributedDataParallel:
    """``--ddp-backend pytorch_ddp`` for searches and without a GPU.

    Symptoms: ``device_ids … got [0]`` on CPU, since fairseq names device 0 whatever there is; and
    ``Expected to have finished reduction``, since a search update leaves one level without
    gradients. Goes when fairseq passes both.
    """
    if not any(p.is_cuda for p in module.parameters()):
        device_ids = output_device = None
    if any(is_alpha(p) for p in module.parameters()):
        kwargs["find_unused_parameters"] = True
    return DistributedDataParallel(
        module, device_ids=device_ids, output_device=output_device, **kwargs
    )


def _all_gather_list(gather):
    """Gather Python data over gloo.

    Symptom: fairseq's ``all_gather_list`` allocates a CUDA buffer. Goes when it asks the backend.
    """

    @wraps(gather)
    def all_gather_list(data, group=None, max_size: int = 16384) -> list[Any]:
        group = distributed_utils.get_global_group() if group is None else group
        if torch.distributed.get_backend(group) != "gloo":
            return gather(data, group, max_size)
        gathered = [None] * distributed_utils.get_world_size(group)
        torch.distributed.all_gather_object(gathered, data, group=group)
        return gathered

    return all_gather_list


def _broadcast_object(
    obj: Any,
    src_rank: int,
    group: torch.distributed.ProcessGroup,
    dist_device: torch.device | None = None,
) -> Any:
    """Hand what one worker has read to the others.

    Symptom: ``Unsupported global: GLOBAL omegaconf.dictconfig.DictConfig`` when several workers
    resume. Cause: torch 2.6 and later load tensors and plain types alone, also from the worker
    that has read the checkpoint, safely. Goes when fairseq tells them apart.
    """
    objects = [obj]
    torch.distributed.broadcast_object_list(objects, src_rank, group, dist_device)
    return objects[0]


def _refuse_empty_spawn(call_main):
    """Refuse to start no process at all.

    Symptom: several workers on a machine without a GPU end with status 0 and train nothing. Cause:
    fairseq spawns a process a GPU. `fairseq-hydra-train` imports the plugin too late for this. Goes
    when fairseq spawns ``--distributed-world-size`` processes.
    """

    @wraps(call_main)
    def checked_call_main(cfg, main, **kwargs):
        distributed = cfg.distributed_training
        if (
            distributed.distributed_world_size > 1
            and not distributed.distributed_no_spawn
            and "SLURM_JOB_ID" not in os.environ
            and "RANK" not in os.environ  # of torchrun
            and not torch.cuda.is_available()
        ):
            raise InputError(
                f"--distributed-world-size is {distributed.distributed_world_size}, but fairseq "
                "starts workers on GPUs alone and there is none: start one process for each rank, "
                "with --distributed-rank, --distributed-no-spawn and --distributed-backend gloo"
            )
        return call_main(cfg, main, **kwargs)

    return checked_call_main


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
