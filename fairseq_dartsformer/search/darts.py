"""`darts`: weights and alpha are updated alternately (Algorithm 2)."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
from fairseq.data import FairseqDataset, LanguagePairDataset
from fairseq.data.iterators import EpochBatchIterator
from fairseq.logging import metrics
from fairseq.tasks import FairseqTask

from ..data import BilevelBatchIterator, BilevelDataset, DataSplit
from ..search_space.levels import LEVELS
from .strategy import SearchStrategy, StepResult

# Arguments of fairseq's `get_batch_iterator` that concern the order of the batches.
ITERATION = (
    *("seed", "num_shards", "shard_id", "num_workers"),
    *("skip_remainder_batch", "grouped_shuffling"),
)


class Darts(SearchStrategy):
    """First-order bilevel search: weights on one part of the data, alpha on another."""

    name = "darts"
    levels = LEVELS
    optimizer = "bilevel_adam"
    options = ("arch_fraction", "arch_subset")

    def check(self) -> None:
        """Read the options of the split."""
        cfg = self.cfg
        self.split = DataSplit.from_options(
            cfg.arch_fraction, cfg.arch_subset, cfg.seed, cfg.train_subset
        )
        # What identifies the data and their split: options, and a fingerprint of each shard seen.
        self.identity = self.split.options()

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
        """Alternate between groups of batches of both levels."""
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
        iterator = BilevelBatchIterator(
            dataset,
            batches,
            self.cfg.update_freq,
            self.identity,
            epoch=epoch,
            buffer_size=data_buffer_size,
            reuse_dataloader=True,
            **{name: arguments[name] for name in ITERATION if name in arguments},
        )
        if not disable_iterator_cache:
            task.dataset_to_epoch_iter[dataset] = iterator
        return iterator

    def train_step(
        self, train_step, sample, model, criterion, optimizer, update_num, ignore_grad
    ) -> StepResult:
        """Train the level of the batch."""
        if ignore_grad:  # a dummy batch, whose level need not be the update's
            raise RuntimeError("a worker was left without a batch of the search")
        level = sample["level"]
        with self.updating(level, model, optimizer):
            loss, sample_size, logging_output = train_step(
                sample, model, criterion, optimizer, update_num, ignore_grad
            )
        # Summed over workers like the rest; reduce_metrics tells the levels apart by them.
        logging_output[f"loss_{level}"] = logging_output["loss"]
        logging_output[f"sample_size_{level}"] = sample_size
        return loss, sample_size, logging_output

    def reduce_metrics(self, logging_outputs: Iterable[Mapping[str, Any]]) -> None:
        """Log each level's loss in training."""
        for level in LEVELS:
            size = sum(log.get(f"sample_size_{level}", 0) for log in logging_outputs)
            if size > 0:
                loss = sum(log.get(f"loss_{level}", 0) for log in logging_outputs)
                loss = loss / size / np.log(2)  # in bits, as fairseq's own loss
                metrics.log_scalar(f"loss_{level}", loss, size, priority=15, round=3)
