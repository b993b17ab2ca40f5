"""Several workers: how they start, and what they send each other."""

from collections.abc import Callable
from typing import Any

import torch
from fairseq.distributed import utils as distributed_utils
from torch import Tensor
from torch.distributed import GradBucket
from torch.futures import Future

from ..errors import InputError
from .patch import patch


@patch("fairseq.models.distributed_fairseq_model:DistributedDataParallel", "cannot start")
def _distributed_data_parallel(
    ddp: type, module: Any, device_ids: Any = None, output_device: Any = None, **kwargs: Any
) -> torch.nn.Module:
    """Symptom: ``--ddp-backend pytorch_ddp`` fails with ``device_ids … got [0]`` on a CPU and with
    ``Expected to have finished reduction`` in a search, and sends zeros for the level that an
    update does not train. Cause: fairseq always names device 0, and DDP expects gradients of all
    parameters. Can go when fairseq passes device ids and communication hooks."""
    if not any(p.is_cuda for p in module.parameters()):
        device_ids = output_device = None
    # Parameters in a group, such as alpha, are not trained in every update.
    in_groups = any(hasattr(p, "param_group") for p in module.parameters())
    if in_groups:
        kwargs["find_unused_parameters"] = True
    wrapped = ddp(module, device_ids=device_ids, output_device=output_device, **kwargs)
    if in_groups:
        wrapped.register_comm_hook(kwargs.get("process_group"), _average_trained)
        wrapped.register_comm_hook = _refuse_hook
    return wrapped


def _refuse_hook(*_: Any) -> None:
    """Raise an :class:`InputError` for fairseq's hook, which would take the place of ours."""
    raise InputError(
        "--ddp-comm-hook is fp16, it must be none for a supernet: alpha's gradients are too small "
        "for half precision"
    )


def _average_trained(group: Any, bucket: GradBucket) -> Future[Tensor]:
    """Average over the workers the gradients of the parameters that take gradients now."""
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


@patch("fairseq.distributed.utils:all_gather_list", "cannot start")
def _gather_on_cpu(
    gather: Callable[..., list[Any]], data: Any, group: Any = None, max_size: int = 16384
) -> list[Any]:
    """Symptom: several workers on CPUs cannot start. Cause: fairseq allocates a CUDA buffer. Can go
    when fairseq allocates it for the backend."""
    group = distributed_utils.get_global_group() if group is None else group
    if torch.distributed.get_backend(group) != "gloo":
        return gather(data, group, max_size)
    gathered = [None] * distributed_utils.get_world_size(group)
    torch.distributed.all_gather_object(gathered, data, group=group)
    return gathered


@patch("fairseq.distributed.utils:_broadcast_object_slow", "cannot start")
def _broadcast_object(
    broadcast: Callable[..., Any], obj: Any, src_rank: int, group: Any, dist_device: Any = None
) -> Any:
    """Symptom: several workers cannot resume: ``Unsupported global: GLOBAL
    omegaconf.dictconfig.DictConfig``. Cause: since version 2.6, torch loads only tensors and plain
    types, also from another worker, which has read the checkpoint safely. Can go when fairseq
    loads from workers without that limit."""
    objects = [obj]
    torch.distributed.broadcast_object_list(objects, src_rank, group, dist_device)
    return objects[0]
