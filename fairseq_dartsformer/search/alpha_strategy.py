"""The base class of strategies that learn alpha, and the two ways in which they use data."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any, ClassVar

import numpy as np
import torch
from fairseq.data import FairseqDataset, LanguagePairDataset
from fairseq.data.iterators import EpochBatchIterator
from fairseq.logging import metrics
from fairseq.optim import FairseqOptimizer
from fairseq.tasks import FairseqTask
from torch import Tensor, nn

from ..data import BilevelBatchIterator, BilevelDataset, DataSplit
from ..errors import InputError, flag
from ..reversible.coupling import Mixtures, Partial
from ..search_space.levels import ALPHA, LEVELS, WEIGHTS
from ..search_space.relaxation import drawing, with_noise
from ..search_space.sampling import chosen, parameters_not_chosen, searched_stacks
from .options import ALPHA_OPTIONS, SPLIT_OPTIONS
from .penalties import build_penalties
from .strategy import BILEVEL, SearchStrategy, StepResult

# Arguments of fairseq's `get_batch_iterator` that concern the order of the batches.
ITERATION = (
    *("seed", "num_shards", "shard_id", "num_workers"),
    *("skip_remainder_batch", "grouped_shuffling"),
)


class AlphaStrategy(SearchStrategy):
    """Learns alpha: when it starts, what runs in an update, and penalties.

    A subclass that samples overrides :meth:`sample`.

    Attributes:
        start: default of ``--arch-start``.
    """

    levels = LEVELS
    optimizer = BILEVEL
    options = ALPHA_OPTIONS
    start: ClassVar[int] = 0

    def check(self) -> None:
        """Read the options of all strategies that learn alpha."""
        cfg = self.cfg
        self.arch_start = self.start if cfg.arch_start is None else cfg.arch_start
        for name, value in (("arch_start", self.arch_start), ("arch_noise", cfg.arch_noise or 0)):
            if not value >= 0:
                raise InputError(f"{flag(name)} is {value}, it must be at least 0")
        self.penalties = build_penalties(cfg.arch_penalty)
        if cfg.arch_noise:
            self.progress(0)  # reports a search without an end

    def move_always(self) -> None:
        """Move alpha from the first update on."""
        self.arch_start = 0

    def progress(self, update_num: int) -> float:
        """Return the share of ``--max-update`` that is done; an :class:`InputError` without it."""
        total = self.cfg.max_update
        if not total:
            raise InputError(
                f"--max-update is {total}, it must be the search's length: something that changes "
                f"linearly over a search by {self.name} depends on it"
            )
        return min(1.0, update_num / total)

    def sample(self, coder: nn.Module, update_num: int) -> Tensor | Partial:
        """Return the mixing weights of a stack in an update; random numbers come from torch's
        generator of the CPU, which is seeded for the update."""
        return coder.mixing_weights()

    def mixtures(
        self, model: nn.Module, levels: Collection[str], update_num: int
    ) -> dict[str, Mixtures]:
        """Return what runs in an update of ``levels``, by stack: the same in all batches and on all
        workers, and after a resume."""
        with drawing(f"{self.cfg.seed} update {update_num}"):
            found = {}
            for stack, coder in searched_stacks(model).items():
                weights = self.sample(coder, update_num)
                if self.cfg.arch_noise and ALPHA not in levels:
                    scale = self.cfg.arch_noise * self.progress(update_num)
                    weights = with_noise(weights, scale, coder.mask)
                found[stack] = weights if isinstance(weights, Partial) else coder.mix(weights)
            return found

    @contextmanager
    def passing(
        self,
        levels: Collection[str],
        model: nn.Module,
        optimizer: FairseqOptimizer,
        update_num: int,
    ) -> Iterator[None]:
        """Wraps a forward and backward pass of an update of ``levels``."""
        with self.updating(levels, model, optimizer):
            mixtures = self.mixtures(model, levels, update_num)
            with chosen(model, mixtures):
                yield

    def before_optimizer_step(
        self, model: nn.Module, optimizer: FairseqOptimizer, update_num: int
    ) -> None:
        """Add the gradients of the penalties; remove those of candidates that did not run.

        ``legacy_ddp`` and half precision replace missing gradients by zeros, and Adam's momentum
        moves a parameter even at a gradient of zero.
        """
        levels = optimizer.optimizer.levels
        copies = master_copies(optimizer)
        with torch.no_grad():
            mixtures = self.mixtures(model, levels, update_num)
        for parameter in parameters_not_chosen(model, mixtures):
            copies.get(parameter, parameter).grad = None
        if ALPHA not in levels or not self.penalties:
            return
        if hasattr(optimizer, "_unscale_grads"):
            optimizer._unscale_grads()  # fairseq multiplies gradients of half precision at the step
        coders = searched_stacks(model)
        with torch.enable_grad():
            progress = partial(self.progress, update_num)
            total = sum(weight * penalty(coders, progress) for weight, penalty in self.penalties)
            alphas = [coder.alpha for coder in coders.values()]
            grads = torch.autograd.grad(total, alphas)
        for alpha, grad in zip(alphas, grads, strict=True):
            parameter = copies.get(alpha, alpha)
            parameter.grad = grad if parameter.grad is None else parameter.grad + grad


def master_copies(optimizer: FairseqOptimizer) -> dict[nn.Parameter, nn.Parameter]:
    """Return the float32 copies that half precision steps, by the model's parameters."""
    if not hasattr(optimizer, "fp32_params"):
        return {}
    return dict(zip(optimizer.fp16_params, optimizer.fp32_params, strict=True))


class OneCandidate(AlphaStrategy):
    """Mixin of strategies in which one candidate runs in each node: cost and memory are those of
    the derived model. It validates the derived architecture."""

    draws = True
    options = tuple(name for name in ALPHA_OPTIONS if name != "arch_noise")

    def valid_step(self, valid_step, sample, model, criterion) -> StepResult:
        """Validate the architecture of the largest alphas."""
        coders = searched_stacks(model).items()
        best = {stack: coder.mixing_weights().argmax(-1).tolist() for stack, coder in coders}
        with chosen(model, best):
            return valid_step(sample, model, criterion)


def annealed(
    strategy: AlphaStrategy, option: str | None, default: tuple[float, float]
) -> Callable[[int], float]:
    """Read ``--arch-temperature FIRST[,LAST]``.

    Returns:
        The temperature of an update, which changes linearly over the search.

    Raises:
        InputError: a temperature is not positive, or the search has no end.
    """
    values = default
    if option is not None:
        try:
            values = tuple(map(float, str(option).split(",")))
        except ValueError:
            values = ()
        if not 1 <= len(values) <= 2 or not all(0 < value < math.inf for value in values):
            raise InputError(
                f"--arch-temperature is {option}, it must be a positive number or two, the first "
                f"and the last, such as {default[0]:g},{default[1]:g}"
            )
    first, last = values[0], values[-1]
    if first == last:
        return lambda update_num: first
    strategy.progress(0)  # reports a search without an end
    return lambda update_num: first + (last - first) * strategy.progress(update_num)


class JointStrategy(AlphaStrategy):
    """Every update moves both levels, by one batch of all training data."""

    def train_step(
        self, train_step, sample, model, criterion, optimizer, update_num, ignore_grad
    ) -> StepResult:
        """Train both levels; before ``--arch-start``, the weights alone."""
        levels = LEVELS if update_num >= self.arch_start else (WEIGHTS,)
        with self.passing(levels, model, optimizer, update_num):
            return train_step(sample, model, criterion, optimizer, update_num, ignore_grad)


class SplitStrategy(AlphaStrategy):
    """Divides the training data between the levels.

    Attributes:
        interval: default of ``--arch-interval``.
        alternating: whether an update has a batch of one level; otherwise all have the weights',
            and a subclass draws batches of alpha from :attr:`iterator`.
        iterator: the batches of the present epoch.
    """

    options = (*AlphaStrategy.options, *SPLIT_OPTIONS)
    interval: ClassVar[int] = 1
    alternating: ClassVar[bool] = True

    def check(self) -> None:
        """Read the options of the split."""
        super().check()
        cfg = self.cfg
        self.arch_interval = self.interval if cfg.arch_interval is None else cfg.arch_interval
        if self.arch_interval < 1:
            raise InputError(f"--arch-interval is {self.arch_interval}, it must be at least 1")
        self.split = DataSplit.from_options(
            cfg.arch_fraction, cfg.arch_subset, cfg.seed, cfg.train_subset
        )
        # What identifies the data and their split: options, and a fingerprint of each shard seen.
        self.identity = self.split.options()
        self.iterator: BilevelBatchIterator | None = None

    def move_always(self) -> None:
        """Move alpha in every update that may."""
        super().move_always()
        self.arch_interval = 1

    def training_data(
        self, train: LanguagePairDataset, load_split: Callable[[str], FairseqDataset]
    ) -> BilevelDataset:
        """Divide the data between the levels."""
        return self.split.divide(train, load_split)

    def batches(
        self,
        task: FairseqTask,
        dataset: BilevelDataset,
        make: Callable[..., EpochBatchIterator],
        epoch: int = 1,
        data_buffer_size: int = 0,
        disable_iterator_cache: bool = False,
        **arguments: Any,
    ) -> BilevelBatchIterator:
        """Return groups of batches, each of one level."""
        self.task = task
        if dataset in task.dataset_to_epoch_iter and not disable_iterator_cache:
            return task.dataset_to_epoch_iter[dataset]
        shards = len(task.cfg.data.split(os.pathsep))
        fingerprint = "fingerprint of the training data"
        if shards > 1:
            fingerprint += f" (shard {(epoch - 1) % shards + 1})"
        self.identity[fingerprint] = dataset.fingerprint
        first = epoch if shards > 1 else 1  # as in the base class
        batches, offset = {}, 0
        for level, part in dataset.levels.items():
            made = make(part, epoch=first, disable_iterator_cache=True, **arguments)
            batches[level] = [batch + offset for batch in made.frozen_batches]
            offset += len(part)
        self.iterator = BilevelBatchIterator(
            dataset,
            batches,
            self.cfg.update_freq,
            self.identity,
            start=self.arch_start if self.alternating else 0,
            interval=self.arch_interval if self.alternating else 0,
            epoch=epoch,
            buffer_size=data_buffer_size,
            reuse_dataloader=True,
            **{name: arguments[name] for name in ITERATION if name in arguments},
        )
        if not disable_iterator_cache:
            task.dataset_to_epoch_iter[dataset] = self.iterator
        return self.iterator

    def train_step(
        self, train_step, sample, model, criterion, optimizer, update_num, ignore_grad
    ) -> StepResult:
        """Train the level of the batch."""
        level = self.level_of_batch(sample, ignore_grad)
        with self.passing((level,), model, optimizer, update_num):
            result = train_step(sample, model, criterion, optimizer, update_num, ignore_grad)
        return with_level_loss(result, level)

    def level_of_batch(self, sample: Mapping[str, Any], ignore_grad: bool) -> str:
        """Return the batch's level; a dummy batch, whose level need not be the update's, is an
        error."""
        if ignore_grad:
            raise RuntimeError("a worker was left without a batch of the search")
        return sample["level"]

    def reduce_metrics(self, logging_outputs: Iterable[Mapping[str, Any]]) -> None:
        """Log each level's loss in training."""
        for level in LEVELS:
            size = sum(log.get(f"sample_size_{level}", 0) for log in logging_outputs)
            if size > 0:
                loss = sum(log.get(f"loss_{level}", 0) for log in logging_outputs)
                loss = loss / size / np.log(2)  # in bits, as fairseq's own loss
                metrics.log_scalar(f"loss_{level}", loss, size, priority=15, round=3)


def with_level_loss(result: StepResult, level: str) -> StepResult:
    """Add the level's loss to the logging output, which is summed over workers like the rest;
    :meth:`SplitStrategy.reduce_metrics` tells the levels apart by it."""
    loss, sample_size, logging_output = result
    logging_output[f"loss_{level}"] = logging_output["loss"]
    logging_output[f"sample_size_{level}"] = sample_size
    return loss, sample_size, logging_output
