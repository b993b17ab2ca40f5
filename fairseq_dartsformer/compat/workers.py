"""Several workers: starting them, what they tell each other, and losing one."""

from __future__ import annotations

import os
from functools import wraps
from typing import Any

import torch
from fairseq.distributed import utils as distributed_utils
from fairseq.models import distributed_fairseq_model
from fairseq.trainer import Trainer
from torch.nn.parallel import DistributedDataParallel

from ..errors import InputError, WorkerError
from ..search_space import is_alpha


def apply() -> None:
    """Put these workarounds in place."""
    distributed_fairseq_model.DistributedDataParallel = _distributed_data_parallel
    distributed_utils.all_gather_list = _all_gather_list(distributed_utils.all_gather_list)
    distributed_utils._broadcast_object_slow = _broadcast_object
    distributed_utils.call_main = _lost_worker(_refuse_empty_spawn(distributed_utils.call_main))
    # `fairseq-hydra-train` imports the plugin too late for `call_main`.
    Trainer.train_step = _lost_worker(Trainer.train_step)
    Trainer.valid_step = _lost_worker(Trainer.valid_step)


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


def is_of_workers(error: Exception) -> bool:
    """Whether an error is of what workers tell each other."""
    return isinstance(error, torch.distributed.DistError) or "gloo" in str(error)


def _lost_worker(function):
    """Say that a worker is lost.

    Symptom: where one worker is killed, the others end with gloo's `Connection closed by peer`, or
    with what the store of the lost one's addresses says. Goes when fairseq explains it.
    """

    @wraps(function)
    def explained(*arguments, **options):
        try:
            return function(*arguments, **options)
        except WorkerError:
            raise
        except RuntimeError as error:
            if not is_of_workers(error):
                raise
            reason = str(error).splitlines()[0]
            raise WorkerError(
                "another worker has ended or cannot be reached, so this one ends too: see that "
                f"one's own output, and start all of them again to go on ({reason})"
            ) from error

    return explained
