"""Peak memory: of what has just run, and of what would run if tensors had contents."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

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

BLOCK = 512  # bytes: what CUDA's caching allocator rounds to


def measured_peak(step: Callable[[], Any], device: str | torch.device = "cpu") -> int:
    """Bytes of real tensors that ``step`` holds at most beyond what was held before it.

    It must not free what was: the CPU's allocator does not tell of that, or takes it for what an
    earlier measurement saw at the same address.
    """
    gc.collect()  # else garbage might be freed within
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
    """Counts the bytes of all storages that operations make.

    It also answers what fake tensors cannot: a number read from one is true, 0 or 0.5.

    Attributes:
        held: bytes at this moment.
        peak: the most since it was last set.
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
    """Within, new tensors are fake ones, are computed with as on a GPU, and are counted."""
    with (
        FakeTensorMode(allow_non_fake_inputs=True),
        StorageCounter() as counter,
        # These ask for contents or for a GPU where sizes are enough.
        _replaced(torch.onnx.operators, "shape_as_tensor", lambda x: list(x.shape)),
        _replaced(torch.cuda.amp, "autocast", _autocast),
        _replaced(DynamicLossScaler, "check_overflow", lambda scaler, norm: None),
        # torch's function is opaque; ours holds as much.
        _replaced(torch.nn, "LinearCrossEntropyOptions", None),
        as_on_gpu(),
    ):
        yield counter


@contextmanager
def as_on_gpu() -> Iterator[None]:
    """Within, tensors on the CPU are computed with as tensors on a GPU are."""
    with (
        _replaced(attention, "ALIGNED_DEVICES", ("cpu",)),
        _replaced(F, "dropout", _dropout),
    ):
        yield


@contextmanager
def _replaced(owner: Any, name: str, value: Any) -> Iterator[None]:
    """Within, an attribute has another value."""
    before = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, before)


def _dropout(x: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    return torch.native_dropout(x, p, training)[0]


def _autocast(enabled: bool):
    return torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled)
