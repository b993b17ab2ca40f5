"""Peak memory: of a training update without a GPU, and of what has just run.

To plan, the real model, loss and optimizer run upon fake tensors, which have sizes and no contents,
while every storage is counted from its making to its freeing.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from unittest import mock

import torch
import torch.nn.functional as F
import torch.onnx.operators
from fairseq import criterions, models, optim
from fairseq.data import Dictionary
from fairseq.optim.amp_optimizer import AMPOptimizer
from fairseq.optim.dynamic_loss_scaler import DynamicLossScaler
from fairseq.tasks import TASK_REGISTRY
from omegaconf import DictConfig
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.profiler import ProfilerActivity, profile
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

DRAWS = 10  # updates to plan where they differ: enough to meet every operation somewhere
BLOCK = 512  # bytes: what CUDA's caching allocator rounds to


def measured_peak(step: Callable[[], Any], device: str | torch.device = "cpu") -> int:
    """Bytes of real tensors that ``step`` holds at most beyond what was held before it.

    It must not free what was: the CPU's allocator does not tell of that.
    """
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


@dataclass(frozen=True)
class MemoryPlan:
    """Bytes that training holds.

    Attributes:
        parameters: the model's own, buffers included.
        gradients: of the level that has most.
        optimizer: its state, and in half precision the float32 copies of parameters and gradients.
        activations: the most that the forward and backward pass of the stacks hold beyond these.
        output_layer: the most that the output layer and the loss hold beyond the activations.
        total: the peak of all together; less than the sum, since not all peak at once.
        count: number of parameters.
    """

    parameters: int
    gradients: int
    optimizer: int
    activations: int
    output_layer: int
    total: int
    count: int


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
    """Let tensors made within be fake ones, and count them."""
    with (
        FakeTensorMode(allow_non_fake_inputs=True),
        StorageCounter() as counter,
        # What asks for contents or for a GPU where sizes will do.
        mock.patch.object(torch.onnx.operators, "shape_as_tensor", lambda x: list(x.shape)),
        mock.patch.object(torch.cuda.amp, "autocast", _autocast),
        mock.patch.object(DynamicLossScaler, "check_overflow", lambda scaler, norm: None),
        # torch's function is opaque; ours holds as much.
        mock.patch.object(F, "linear_cross_entropy", None, create=True),
    ):
        yield counter


def _autocast(enabled: bool):
    return torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled)


@dataclass
class _Training:
    """A model in training, as fairseq's trainer would have it."""

    cfg: DictConfig
    vocabulary: int
    model: nn.Module = field(init=False)

    def __post_init__(self):
        cfg = self.cfg
        dictionary = _Symbols(self.vocabulary)
        self.task = TASK_REGISTRY[cfg.task._name](cfg.task, dictionary, dictionary)
        self.model = models.build_model(cfg.model, self.task)
        self.criterion = criterions.build_criterion(cfg.criterion, self.task)
        if cfg.common.fp16 or cfg.common.bf16:
            _convert(self.model, torch.float16 if cfg.common.fp16 else torch.bfloat16)
        # The level of each update to plan.
        self.levels: tuple[str | None, ...] = (None,)
        if cfg.task._name == "translation_search":
            strategy = self.task.strategy
            strategy.prepare(self.model)
            self.levels = strategy.levels * (DRAWS if strategy.draws else 1)

    def build_optimizer(self) -> None:
        """Build it, and leave in it what the first updates of all levels do."""
        cfg, half = self.cfg, self.cfg.common.fp16 or self.cfg.common.bf16
        params = [p for p in self.model.parameters() if p.requires_grad]
        build = optim.FP16Optimizer if half else AMPOptimizer if cfg.common.amp else None
        self.optimizer = (
            build.build_optimizer(cfg, params)
            if build
            else optim.build_optimizer(cfg.optimizer, params)
        )
        for level in dict.fromkeys(self.levels):
            if level is not None:  # which `bilevel_adam` asks for
                self.optimizer.optimizer.level = level
            loss = sum((0.0 * p).sum().float() for p in params)
            self.optimizer.zero_grad()
            self.optimizer.backward(loss)
            self.step()

    def batch(self, level: str | None, sentences: int, length: int) -> dict[str, Any]:
        tokens = torch.zeros(sentences, length, dtype=torch.long)
        inputs = {"src_tokens": tokens, "prev_output_tokens": tokens.clone()}
        return {
            "level": level,
            "target": tokens.clone(),
            "ntokens": tokens.numel(),
            "net_input": {**inputs, "src_lengths": torch.zeros(sentences, dtype=torch.long)},
        }

    def compute_gradients(self, batch: dict[str, Any], update: int) -> None:
        self.task.train_step(batch, self.model, self.criterion, self.optimizer, update)

    def step(self) -> None:
        self.optimizer.clip_grad_norm(0.0)
        self.optimizer.step()
        self.optimizer.zero_grad()


class _Symbols(Dictionary):
    """A dictionary of so many symbols, whatever they be."""

    def __init__(self, size: int):
        super().__init__()
        self.size = size

    def __len__(self) -> int:
        return self.size


def _convert(model: nn.Module, dtype: torch.dtype) -> None:
    """``model.to(dtype)``, which torch cannot do to fake parameters; alpha stays as it is."""
    converted: dict[nn.Parameter, nn.Parameter] = {}
    for module in model.modules():
        for name, parameter in module._parameters.items():
            if parameter is not None and name != "alpha":
                if parameter not in converted:
                    converted[parameter] = nn.Parameter(parameter.detach().to(dtype))
                module._parameters[name] = converted[parameter]


def plan_memory(cfg: DictConfig, vocabulary: int, sentences: int, length: int) -> MemoryPlan:
    """Run updates of every level upon fake tensors.

    Args:
        cfg: fairseq's configuration of a training.
        vocabulary: symbols of the joint dictionary.
        sentences: pairs in a batch.
        length: tokens of each of their sentences.
    """
    with fake_tensors() as counter:
        training = _Training(cfg, vocabulary)
        model = training.model.train()
        count = sum(p.numel() for p in model.parameters())
        parameters = counter.held
        training.build_optimizer()
        optimizer = counter.held - parameters
        gradients = activations = output_layer = total = 0
        for update, level in enumerate(training.levels):
            batch = training.batch(level, sentences, length)
            start = counter.peak = counter.held
            with _Phases(counter, model.decoder) as phases:
                training.compute_gradients(batch, update)
            own = counter.held - start
            gradients = max(gradients, own)
            # What the stacks hold while they go back comes beside their gradients.
            activations = max(activations, phases.forward - start, counter.peak - counter.held)
            output_layer = max(output_layer, phases.output_layer)
            total = max(total, phases.forward, phases.output_peak, counter.peak)
            counter.peak = counter.held
            training.step()
            total = max(total, counter.peak)
    return MemoryPlan(parameters, gradients, optimizer, activations, output_layer, total, count)


class _Phases:
    """Tells an update's phases apart: the stacks forward, the output layer, the stacks backward.

    Attributes:
        forward: the peak of the first phase.
        output_peak, output_layer: the peak of the second, whole and beyond what the first left.
    """

    def __init__(self, counter: StorageCounter, decoder: nn.Module):
        self.counter, self.decoder = counter, decoder

    def __enter__(self) -> _Phases:
        extract = self.decoder.extract_features

        def extract_features(*args: Any, **kwargs: Any) -> tuple[Tensor, Any]:
            features, extra = extract(*args, **kwargs)
            self.forward = self.counter.peak
            self.counter.peak = self.kept = self.counter.held
            features.register_hook(self._stacks_go_back)
            return features, extra

        self.decoder.extract_features = extract_features
        return self

    def _stacks_go_back(self, _: Tensor) -> None:
        self.output_peak = self.counter.peak
        self.output_layer = self.output_peak - self.kept
        self.counter.peak = self.counter.held

    def __exit__(self, *_: Any) -> None:
        del self.decoder.extract_features
