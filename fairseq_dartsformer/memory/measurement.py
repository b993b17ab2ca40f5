"""Peak memory, measured on real tensors or counted on fake ones."""

import gc
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import torch
import torch.nn.functional as F
import torch.onnx.operators
from fairseq.optim.dynamic_loss_scaler import DynamicLossScaler
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.profiler import ProfilerActivity, profile
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from ..operations import attention

BLOCK = 512  # bytes, to which CUDA's caching allocator rounds up


def measured_peak(step: Callable[[], Any], device: str | torch.device = "cpu") -> int:
    """Measure the peak of bytes in real tensors while ``step`` runs, beyond those before it.

    ``step`` must not free earlier tensors: on a CPU, the profiler miscounts them.
    """
    gc.collect()  # garbage must not be freed within the step
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        step()
        torch.cuda.synchronize(device)
        return torch.cuda.max_memory_allocated(device) - before
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        step()
    held = peak = 0
    for event in recorded.profiler.kineto_results.events():
        if event.name() == "[memory]":
            held += event.nbytes()
            peak = max(peak, held)
    return peak


class StorageCounter(TorchDispatchMode):
    """Counts the bytes of all storages that operations create.

    Numbers read from fake tensors, which have none, are true, 0 or 0.5.

    Attributes:
        held: bytes now.
        peak: maximum since it was last set.
    """

    def __init__(self):
        super().__init__()
        self.held = self.peak = 0
        self._seen: dict[int, weakref.ref] = {}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func is torch.ops.aten._local_scalar_dense.default:
            dtype = args[0].dtype
            return True if dtype == torch.bool else 0.5 if dtype.is_floating_point else 0
        out = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if isinstance(tensor, Tensor):
                self._count(tensor.untyped_storage())
        return out

    def _count(self, storage: torch.UntypedStorage) -> None:
        key = id(storage)
        if key in self._seen:
            return
        size = -(-storage.nbytes() // BLOCK) * BLOCK

        def freed(_: weakref.ref) -> None:
            del self._seen[key]
            self.held -= size

        self._seen[key] = weakref.ref(storage, freed)
        self.held += size
        self.peak = max(self.peak, self.held)


@contextmanager
def fake_tensors() -> Iterator[StorageCounter]:
    """Context in which new tensors are fake, computed with as on a GPU, and counted."""
    with (
        FakeTensorMode(allow_non_fake_inputs=True),
        StorageCounter() as counter,
        # These need contents or a GPU where sizes are enough.
        patch.object(torch.onnx.operators, "shape_as_tensor", lambda x: list(x.shape)),
        patch.object(torch.cuda.amp, "autocast", _autocast),
        patch.object(DynamicLossScaler, "check_overflow", lambda scaler, norm: None),
        as_on_gpu(),
    ):
        yield counter


@contextmanager
def as_on_gpu() -> Iterator[None]:
    """Context in which tensors on the CPU are computed with as on a GPU."""
    with (
        patch.object(attention, "ALIGNED_DEVICES", ("cpu",)),
        patch.object(F, "dropout", _dropout),
    ):
        yield


def _dropout(x: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    return torch.native_dropout(x, p, training)[0]


def _autocast(enabled: bool):
    return torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled)
