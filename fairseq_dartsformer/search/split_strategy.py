"""Strategies that divide the training data between the levels."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar

import numpy as np
import torch
from fairseq.data import FairseqDataset, LanguagePairDataset
from fairseq.data.iterators import EpochBatchIterator
from fairseq.distributed.utils import get_global_rank
from fairseq.logging import metrics
from fairseq.optim import FairseqOptimizer
from fairseq.tasks import FairseqTask
from torch import nn

from ..data import BilevelBatchIterator, BilevelDataset, DataSplit
from ..search_space.levels import ALPHA, LEVELS
from ..search_space.sampling import searched_stacks
from .alpha_strategy import (
    AlphaStrategy,
    Batch,
    loss_of,
    parameters_of,
    to_device,
    without_wrappers,
)
from .eigenvalue import LAG, dominant_eigenvalue, has_grown
from .options import SPLIT_OPTIONS, at_least, read_option, stop_after
from .strategy import StepResult

logger = logging.getLogger(__name__)

# Arguments of fairseq's `get_batch_iterator` that concern the order of the batches.
ITERATION = (
    *("seed", "num_shards", "shard_id", "num_workers"),
    *("skip_remainder_batch", "grouped_shuffling"),
)


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
        self.arch_interval = at_least(cfg, "arch_interval", 1, self.interval)
        self.split = DataSplit.from_options(
            cfg.arch_fraction, cfg.arch_subset, cfg.seed, cfg.train_subset
        )
        # What identifies the data and their split: options, and a fingerprint of each shard seen.
        self.identity = self.split.options()
        self.iterator: BilevelBatchIterator | None = None
        self.eigenvalues: list[float] = []
        ratio = read_option(
            cfg, "stop_eigenvalue", None, lambda r: 0 < r < 1, "lie between 0 and 1"
        )
        if ratio is not None:
            self.refuse_half_precision("--stop-eigenvalue")

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
            earlier=[] if self.iterator is None else self.iterator.groups_before(epoch),
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
        self.loss = loss_of(criterion)
        with self.passing((level,), model, optimizer, update_num):
            result = train_step(sample, model, criterion, optimizer, update_num, ignore_grad)
        return with_level_loss(result, level)

    def level_of_batch(self, sample: Mapping[str, Any], ignore_grad: bool) -> str:
        """Return the batch's level; a dummy batch, whose level need not be the update's, is an
        error."""
        if ignore_grad:
            raise RuntimeError("a worker was left without a batch of the search")
        return sample["level"]

    def after_update(self, model: nn.Module, optimizer: FairseqOptimizer, update_num: int) -> None:
        """Every ``--log-interval`` updates, end the search if alpha's loss has become too sharp."""
        if self.cfg.stop_eigenvalue is None or update_num % self.cfg.log_interval:
            return
        module = without_wrappers(model)
        batch = to_device(self.iterator.alpha_sample(0), module)  # always the same one
        value = self.sharpness(module, batch, update_num)
        self.eigenvalues.append(value)
        if get_global_rank() == 0:
            logger.info(f"dominant eigenvalue of alpha's loss: {value:.6f}")
        if has_grown(self.eigenvalues, self.cfg.stop_eigenvalue):
            reason = (
                f"the eigenvalue has grown (--stop-eigenvalue {self.cfg.stop_eigenvalue}); derive "
                f"from a checkpoint of about update {update_num - LAG * self.cfg.log_interval}"
            )
            stop_after(self.cfg, update_num, reason)

    def sharpness(self, module: nn.Module, batch: Batch, update_num: int) -> float:
        """Return the dominant eigenvalue of the Hessian of alpha's loss on a batch, without dropout
        and with the mixing weights that are validated: a sample's noise would be in it, and in
        RobustDARTS the loss is that of the mixture."""

        def gradients():
            with torch.enable_grad():
                coders = searched_stacks(module).items()
                mixtures = {stack: coder.mix(coder.mixing_weights()) for stack, coder in coders}
            return self.mean_loss(module, [batch], (ALPHA,), update_num, mixtures)[1]

        training = module.training
        module.eval()
        value = dominant_eigenvalue(gradients, parameters_of(module, (ALPHA,)))
        module.train(training)
        return value

    def state_dict(self) -> dict[str, Any]:
        """The eigenvalues so far."""
        return {"eigenvalues": self.eigenvalues} if self.eigenvalues else {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue."""
        self.eigenvalues = state.get("eigenvalues", [])

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
