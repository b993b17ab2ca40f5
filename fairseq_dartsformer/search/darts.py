"""`darts`: weights and alpha are updated alternately (Algorithm 2)."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import torch
from fairseq.data import FairseqDataset, LanguagePairDataset, data_utils
from fairseq.data.iterators import EpochBatchIterator
from fairseq.logging import metrics
from fairseq.optim import FairseqOptimizer
from fairseq.tasks import FairseqTask
from torch import nn

from ..data import BilevelBatchIterator, BilevelDataset, DataSplit
from ..search_space.alpha import mean_entropy
from ..search_space.levels import ALPHA, LEVELS
from .strategy import SearchStrategy, StepResult, check_sentences
from .worker_agreement import compare_alpha


class Darts(SearchStrategy):
    """First-order bilevel search: weights on one part of the data, alpha on another."""

    name = "darts"
    levels = LEVELS
    optimizer = "bilevel_adam"
    options = (
        *("arch_fraction", "arch_subset"),
        *("warn_skip_share", "stop_skips", "stop_entropy", "stop_unchanged"),
    )

    def check(self) -> None:
        """Read the options of the split."""
        cfg = self.cfg
        self.split = DataSplit.from_options(
            cfg.arch_fraction, cfg.arch_subset, cfg.seed, cfg.train_subset
        )
        # What identifies the data and their split: options, and a fingerprint of each shard seen.
        self.identity = self.split.options()
        self.entropy: torch.Tensor | None = None

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
        seed: int = 1,
        epoch: int = 1,
        max_positions: Any = None,
        ignore_invalid_inputs: bool = False,
        required_batch_size_multiple: int = 1,
        data_buffer_size: int = 0,
        disable_iterator_cache: bool = False,
        **arguments: Any,
    ) -> BilevelBatchIterator:
        """Alternate between groups of batches of both levels."""
        if dataset in task.dataset_to_epoch_iter and not disable_iterator_cache:
            return task.dataset_to_epoch_iter[dataset]
        shards = task.cfg.data.split(os.pathsep)
        first = epoch if len(shards) > 1 else 1  # as in the base class
        dataset.set_epoch(first)
        fingerprint = "fingerprint of the training data"
        if len(shards) > 1:
            fingerprint += f" (shard {(epoch - 1) % len(shards) + 1})"
        self.identity[fingerprint] = dataset.fingerprint
        arguments.pop("update_epoch_batch_itr", None)
        limits = {name: arguments.pop(name, None) for name in ("max_tokens", "max_sentences")}
        batches = {}
        for level in LEVELS:
            with data_utils.numpy_seed(seed + first):
                indices = dataset.ordered_members(level)
            if max_positions is not None:
                indices = task.filter_indices_by_size(
                    indices, dataset.datasets[level], max_positions, ignore_invalid_inputs
                )
            check_sentences(indices, f"update {level} on", max_positions)
            batches[level] = dataset.level_batches(
                level, indices, required_batch_size_multiple, **limits
            )
        iterator = BilevelBatchIterator(
            dataset,
            batches,
            self.cfg.update_freq,
            self.identity,
            seed=seed,
            epoch=epoch,
            buffer_size=data_buffer_size,
            reuse_dataloader=True,
            **arguments,
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

    def after_update(self, model: nn.Module, optimizer: FairseqOptimizer, update_num: int) -> None:
        """Compute alpha's entropy; check that all workers have the same alpha if it changed."""
        with torch.no_grad():
            self.entropy = mean_entropy((model.encoder.alpha, model.decoder.alpha))
        if optimizer.optimizer.level == ALPHA:
            compare_alpha(model, f"after update {update_num}")

    def reduce_metrics(self, logging_outputs: Iterable[Mapping[str, Any]]) -> None:
        """Log each level's loss and alpha's mean entropy in training."""
        for level in LEVELS:
            size = sum(log.get(f"sample_size_{level}", 0) for log in logging_outputs)
            if size > 0:
                loss = sum(log.get(f"loss_{level}", 0) for log in logging_outputs)
                loss = loss / size / np.log(2)  # in bits, as fairseq's own loss
                metrics.log_scalar(f"loss_{level}", loss, size, priority=15, round=3)
                metrics.log_scalar("alpha_entropy", self.entropy, priority=16, round=4, weight=0)
