"""Several workers: starting them, and what they tell each other."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from fairseq.distributed import utils as distributed_utils
from torch import Tensor
from torch.distributed import GradBucket
from torch.futures import Future

from .patch import Patch


def _distributed_data_parallel(ddp: type) -> Callable[..., Any]:
    """Symptoms under ``--ddp-backend pytorch_ddp``: ``device_ids … got [0]`` on CPU, since fairseq
    names device 0 whatever there is; ``Expected to have finished reduction``, since an update of a
    search leaves one level without gradients; and zeros for that level travel between the workers.
    Can go when fairseq passes device ids and hooks."""

    def distributed_data_parallel(
        module: torch.nn.Module, device_ids: Any = None, output_device: Any = None, **kwargs: Any
    ) -> torch.nn.Module:
        if not any(p.is_cuda for p in module.parameters()):
            device_ids = output_device = None
        # Parameters of a group of their own are not trained in every update.
        in_groups = any(hasattr(p, "param_group") for p in module.parameters())
        if in_groups:
            kwargs["find_unused_parameters"] = True
        wrapped = ddp(module, device_ids=device_ids, output_device=output_device, **kwargs)
        if in_groups:
            wrapped.register_comm_hook(kwargs.get("process_group"), _average_trained)
        return wrapped

    return distributed_data_parallel


def _average_trained(group: Any, bucket: GradBucket) -> Future[Tensor]:
    """Average, over the workers, the gradients of those parameters that take gradients now."""
    pairs = zip(bucket.parameters(), bucket.gradients(), strict=True)
    gradients = [gradient for parameter, gradient in pairs if parameter.requires_grad]
    future: Future[Tensor] = Future()
    if not gradients:
        future.set_result(bucket.buffer())
        return future
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    flat.div_(torch.distributed.get_world_size(group))

    def copy_back(reduced: Future[list[Tensor]]) -> Tensor:
        parts = reduced.value()[0].split([gradient.numel() for gradient in gradients])
        for gradient, part in zip(gradients, parts, strict=True):
            gradient.copy_(part.view_as(gradient))
        return bucket.buffer()

    work = torch.distributed.all_reduce(flat, group=group, async_op=True)
    return work.get_future().then(copy_back)


def _all_gather_list(gather: Callable[..., list[Any]]):
    """Symptom: several workers on CPUs cannot start. Cause: fairseq's ``all_gather_list`` allocates
    a CUDA buffer. Can go when it asks the backend."""

    def all_gather_list(data: Any, group: Any = None, max_size: int = 16384) -> list[Any]:
        group = distributed_utils.get_global_group() if group is None else group
        if torch.distributed.get_backend(group) != "gloo":
            return gather(data, group, max_size)
        gathered = [None] * distributed_utils.get_world_size(group)
        torch.distributed.all_gather_object(gathered, data, group=group)
        return gathered

    return all_gather_list


def _broadcast_object(broadcast: Callable[..., Any]):
    """Symptom: ``Unsupported global: GLOBAL omegaconf.dictconfig.DictConfig`` when several workers
    resume. Cause: since 2.6, torch loads only tensors and plain types, also what another worker
    sends, which has read the checkpoint safely. Can go when fairseq tells these apart."""

    def broadcast_object(
        obj: Any,
        src_rank: int,
        group: torch.distributed.ProcessGroup,
        dist_device: torch.device | None = None,
    ) -> Any:
        objects = [obj]
        torch.distributed.broadcast_object_list(objects, src_rank, group, dist_device)
        return objects[0]

    return broadcast_object


PATCHES = (
    Patch(
        "fairseq.models.distributed_fairseq_model:DistributedDataParallel",
        "cannot start",
        _distributed_data_parallel,
    ),
    Patch("fairseq.distributed.utils:all_gather_list", "cannot start", _all_gather_list),
    Patch("fairseq.distributed.utils:_broadcast_object_slow", "cannot start", _broadcast_object),
)
