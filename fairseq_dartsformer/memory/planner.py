"""Plans of memory: real model, criterion and optimizer on tensors without contents."""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from fairseq import criterions, models, optim, options
from fairseq.data import Dictionary
from fairseq.dataclass.utils import convert_namespace_to_omegaconf
from fairseq.models import FairseqLanguageModel
from fairseq.optim.amp_optimizer import AMPOptimizer
from fairseq.tasks import TASK_REGISTRY
from omegaconf import DictConfig
from torch import Tensor, nn

from ..errors import InputError
from ..search.darts import Darts
from ..search.penalties import parameters
from ..search.registry import STRATEGIES
from ..search.strategy import SearchStrategy
from ..search_space.alpha import is_alpha
from ..search_space.sampling import parameters_pruned, searched_node, searched_stacks
from ..tasks import SearchTask
from .measurement import StorageCounter, fake_tensors

LENGTH = 50  # tokens of a sentence, on both sides, unless the user says otherwise
DRAWS = 10  # updates to plan where they differ: enough to run every operation somewhere

DEFAULTS = "--criterion chunked_label_smoothed_cross_entropy --label-smoothing 0.1".split()
DEFAULTS += ["--lr", "5e-4", "--max-update", "1"]  # schedules over a search need its length


def training_config(arch: str, given: Sequence[str]) -> DictConfig:
    """fairseq's configuration of a training.

    Args:
        arch: the architecture.
        given: other options of ``fairseq-train`` except the data; task, optimizer and criterion
            have defaults.

    Raises:
        InputError: an option cannot be planned for.
    """
    text_alone = issubclass(models.ARCH_MODEL_REGISTRY.get(arch, object), FairseqLanguageModel)
    task, optimizer = "language_modeling" if text_alone else "translation", "adam"
    if "_search" in arch:
        task, optimizer = f"{task}_search", _search_strategy(given).optimizer
    defaults = ["--task", task, "--optimizer", optimizer]
    namespace = options.parse_args_and_arch(
        options.get_training_parser(),
        input_args=["none", *defaults, *DEFAULTS, "--arch", arch, *given],
    )
    cfg = convert_namespace_to_omegaconf(namespace)
    for half in ("fp16", "bf16"):
        if cfg.common[f"memory_efficient_{half}"]:
            raise InputError(f"--memory-efficient-{half} cannot be planned, only --{half}")
    if "check_reconstruction" in cfg.model:
        cfg.model.check_reconstruction = 0  # there is nothing to compare
    return cfg


def _search_strategy(given: Sequence[str]) -> type[SearchStrategy]:
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--search-strategy", default=Darts.name)
    # The task reports an unknown strategy.
    return STRATEGIES.get(parser.parse_known_args(given)[0].search_strategy, Darts)


class Training:
    """Model, criterion and optimizer of a training, as in fairseq's trainer."""

    def __init__(self, cfg: DictConfig, vocabulary: int):
        self.cfg, self.vocabulary = cfg, vocabulary
        dictionary = Dictionary()
        dictionary.pad_to_multiple_(vocabulary)
        self.task = TASK_REGISTRY[cfg.task._name](cfg.task, dictionary, dictionary)
        self.model = models.build_model(cfg.model, self.task)
        self.criterion = criterions.build_criterion(cfg.criterion, self.task)
        if cfg.common.fp16 or cfg.common.bf16:
            _convert(self.model, torch.float16 if cfg.common.fp16 else torch.bfloat16)
        # The level of each update to plan.
        self.levels: tuple[str | None, ...] = (None,)
        if isinstance(self.task, SearchTask):
            strategy = self.task.strategy
            strategy.prepare(self.model)
            strategy.move_always()
            self.levels = strategy.levels * (DRAWS if strategy.draws else 1)

    def prune(self, share: float) -> None:
        """Keep the share of each node's candidates that has the most parameters."""
        for coder in searched_stacks(self.model).values():
            sizes = [parameters(operation, coder) for operation in searched_node(coder)]
            order = sorted(range(len(sizes)), key=lambda o: -sizes[o])
            kept = sorted(order[: math.ceil(share * len(sizes))])
            layers, nodes, _ = coder.alpha.shape
            # Not by the mask, whose values fake tensors do not have.
            coder.active = [[kept] * nodes] * layers

    def build_optimizer(self) -> None:
        """Build the optimizer with the state that it has after an update of each level, without
        that of pruned candidates."""
        cfg, half = self.cfg, self.cfg.common.fp16 or self.cfg.common.bf16
        params = [p for p in self.model.parameters() if p.requires_grad]
        if half or cfg.common.amp:
            kind = optim.FP16Optimizer if half else AMPOptimizer
            self.optimizer = kind.build_optimizer(cfg, params)
        else:
            self.optimizer = optim.build_optimizer(cfg.optimizer, params)
        pruned = set(parameters_pruned(self.model))
        for level in dict.fromkeys(self.levels):
            if level is not None:  # of `bilevel_adam`
                self.optimizer.optimizer.levels = (level,)
            loss = sum((0.0 * p).sum().float() for p in params if p not in pruned)
            self.optimizer.zero_grad()
            self.optimizer.backward(loss)
            self.step()

    def batch(self, level: str | None, sentences: int, length: int) -> dict[str, Any]:
        """Random symbols, `B × T`, of a text or on both sides; one sentence ends in padding."""
        device = next(self.model.parameters()).device
        tokens = torch.randint(4, self.vocabulary, (sentences, length), device=device)
        tokens[0, -1] = self.task.source_dictionary.pad()
        inputs = {"src_tokens": tokens}
        if not isinstance(self.model, FairseqLanguageModel):
            inputs["prev_output_tokens"] = tokens.clone()
        lengths = torch.full((sentences,), length, device=device)
        return {
            "level": level,
            "target": tokens.clone(),
            "ntokens": tokens.numel() - 1,
            "net_input": {**inputs, "src_lengths": lengths},
        }

    def compute_gradients(self, batch: dict[str, Any], update: int) -> None:
        """Forward and backward pass of an update."""
        self.task.train_step(batch, self.model, self.criterion, self.optimizer, update)
        strategy = getattr(self.task, "strategy", None)
        if strategy is not None and not strategy.generates:
            strategy.before_optimizer_step(self.model, self.optimizer, update)

    def step(self) -> None:
        """Step the optimizer and free the gradients."""
        self.optimizer.clip_grad_norm(0.0)
        self.optimizer.step()
        self.optimizer.zero_grad()


def count_parameters(cfg: DictConfig, vocabulary: int) -> int:
    """Count the parameters of a model, alpha included, without allocating them.

    Args:
        cfg: fairseq's configuration of a training.
        vocabulary: symbols of the joint dictionary.

    Raises:
        InputError: the options do not fit together.
    """
    with torch.device("meta"):
        model = Training(cfg, vocabulary).model
    return sum(p.numel() for p in model.parameters())


def _convert(model: nn.Module, dtype: torch.dtype) -> None:
    """``model.to(dtype)`` without alpha; torch's own does not work on fake parameters."""
    converted: dict[nn.Parameter, nn.Parameter] = {}
    for module in model.modules():
        for name, buffer in module.named_buffers(recurse=False):
            if buffer.is_floating_point():
                module._buffers[name] = buffer.to(dtype)
        for name, parameter in module._parameters.items():
            if parameter is not None and not is_alpha(parameter):
                if parameter not in converted:
                    converted[parameter] = nn.Parameter(parameter.detach().to(dtype))
                module._parameters[name] = converted[parameter]


@dataclass(frozen=True)
class MemoryPlan:
    """Bytes that a training holds.

    Attributes:
        parameters: parameters and buffers of the model.
        gradients: of the level with the most.
        optimizer: state, and in half precision the float32 copies of parameters and gradients.
        activations: peak of the stacks' forward and backward passes beyond the above.
        output_layer: peak of the output layer and the loss beyond the activations.
        total: peak of everything; less than the sum, because the parts peak at different times.
        count: number of parameters.
    """

    parameters: int
    gradients: int
    optimizer: int
    activations: int
    output_layer: int
    total: int
    count: int


def plan_memory(
    cfg: DictConfig, vocabulary: int, sentences: int, length: int, share: float = 1.0
) -> MemoryPlan:
    """Run updates of every level on fake tensors.

    Args:
        cfg: fairseq's configuration of a training.
        vocabulary: symbols of the joint dictionary.
        sentences: pairs in a batch, or windows of a text.
        length: tokens of each of their sentences.
        share: of each node's candidates that pruning has left, those with the most parameters.
    """
    with fake_tensors() as counter:
        training = Training(cfg, vocabulary)
        model = training.model.train()
        count = sum(p.numel() for p in model.parameters())
        held = counter.held
        if share < 1:
            training.prune(share)
        training.build_optimizer()
        optimizer = counter.held - held
        gradients = activations = output_layer = total = 0
        for update, level in enumerate(training.levels):
            batch = training.batch(level, sentences, length)
            start = counter.peak = counter.held
            with _Phases(counter, model.decoder) as phases:
                training.compute_gradients(batch, update)
            own = counter.held - start
            gradients = max(gradients, own)
            # The stacks' backward pass adds to the gradients.
            activations = max(activations, phases.forward - start, counter.peak - counter.held)
            output_layer = max(output_layer, phases.output_layer)
            total = max(total, phases.forward, phases.output_peak, counter.peak)
            counter.peak = counter.held
            training.step()
            total = max(total, counter.peak)
    return MemoryPlan(held, gradients, optimizer, activations, output_layer, total, count)


class _Phases:
    """Separates the phases of an update: stacks forward, output layer, stacks backward.

    Attributes:
        forward: peak of the first phase.
        output_peak, output_layer: peak of the second phase, in all and beyond the activations; 0 in
            an update without a backward pass, in which it belongs to the third.
    """

    output_peak = output_layer = 0

    def __init__(self, counter: StorageCounter, decoder: nn.Module):
        self.counter, self.decoder = counter, decoder

    def __enter__(self) -> _Phases:
        extract, self.forward = self.decoder.extract_features, None

        def extract_features(*args: Any, **kwargs: Any) -> tuple[Tensor, Any]:
            features, extra = extract(*args, **kwargs)
            # A strategy's further passes belong to the last phase.
            if self.forward is not None:
                return features, extra
            self.forward = self.counter.peak
            self.counter.peak = self.kept = self.counter.held
            if features.requires_grad:
                features.register_hook(self._stacks_backward)
            return features, extra

        self.decoder.extract_features = extract_features
        return self

    def _stacks_backward(self, _: Tensor) -> None:
        self.output_peak = self.counter.peak
        self.output_layer = self.output_peak - self.kept
        self.counter.peak = self.counter.held

    def __exit__(self, *_: Any) -> None:
        del self.decoder.extract_features
