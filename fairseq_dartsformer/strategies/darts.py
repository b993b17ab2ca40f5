"""`darts`: the weights and alpha are updated in turn (Algorithm 2)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from fairseq.data import LanguagePairDataset, data_utils
from fairseq.data.iterators import EpochBatchIterator
from fairseq.logging import metrics
from fairseq.optim import FairseqOptimizer
from torch import nn

from ..agreement import compare_alpha
from ..data import BilevelBatchIterator, BilevelDataset, Division
from ..errors import InputError
from ..levels import ALPHA, LEVELS
from ..search_space import mean_entropy
from .base import SearchStrategy, StepResult

if TYPE_CHECKING:
    from ..tasks.translation_search import TranslationSearchTask


class Darts(SearchStrategy):
    """Bilevel search: theta on one part of the data, alpha on another, to first order."""

    name = "darts"
    levels = LEVELS
    optimizer = "bilevel_adam"
    options = ("arch_fraction", "arch_subset")
    options += ("warn_skip_share", "stop_skips", "stop_entropy", "stop_unchanged")

    def check(self) -> None:
        """Refuse options that contradict each other or are out of range."""
        self.division = Division.of(self.cfg)
        self.entropy: torch.Tensor | None = None

    def training_data(
        self, task: TranslationSearchTask, train: LanguagePairDataset, epoch: int
    ) -> BilevelDataset:
        """Alpha's data beside the weights'."""
        return self.division.divide(task, train, epoch)

    def batches(
        self,
        task: TranslationSearchTask,
        dataset: BilevelDataset,
        make: Callable[..., EpochBatchIterator],
        max_tokens: int | None = None,
        max_sentences: int | None = None,
        max_positions: Any = None,
        ignore_invalid_inputs: bool = False,
        required_batch_size_multiple: int = 1,
        seed: int = 1,
        epoch: int = 1,
        data_buffer_size: int = 0,
        disable_iterator_cache: bool = False,
        update_epoch_batch_itr: bool = False,
        **arguments: Any,
    ) -> BilevelBatchIterator:
        """Groups of batches of either level in turn."""
        if dataset in task.dataset_to_epoch_iter and not disable_iterator_cache:
            return task.dataset_to_epoch_iter[dataset]
        # As in the base class.
        batches_epoch = epoch if task.has_sharded_data("train") else 1
        dataset.set_epoch(batches_epoch)
        batches = {}
        for level in LEVELS:
            with data_utils.numpy_seed(seed + batches_epoch):
                indices = dataset.ordered_members(level)
            if max_positions is not None:
                indices = task.filter_indices_by_size(
                    indices, dataset.datasets[level], max_positions, ignore_invalid_inputs
                )
            if len(indices) == 0:
                raise InputError(
                    f"no sentence is left to update {level} on: there is none, or all are longer "
                    "than --max-source-positions, --max-target-positions or --max-tokens allow "
                    f"{max_positions}"
                )
            batches[level] = dataset.level_batches(
                level,
                indices,
                required_batch_size_multiple,
                max_tokens=max_tokens,
                max_sentences=max_sentences,
            )
        iterator = BilevelBatchIterator(
            dataset,
            batches,
            self.cfg.update_freq,
            seed=seed,
            epoch=epoch,
            buffer_size=data_buffer_size,
            reuse_dataloader=True,
            division=str(self.division),
            **arguments,
        )
        if not disable_iterator_cache:
            task.dataset_to_epoch_iter[dataset] = iterator
        return iterator

    def train_step(
        self,
        step: Callable[[], StepResult],
        sample: Mapping[str, Any],
        model: nn.Module,
        optimizer: FairseqOptimizer,
        update_num: int,
        ignore_grad: bool,
    ) -> StepResult:
        """Train the level that the batch carries.

        A dummy batch is never asked for its level: :class:`BilevelBatchIterator` leaves no worker
        without data.
        """
        if ignore_grad:
            raise RuntimeError("a worker was left without a batch of the search")
        level = sample["level"]
        with self.updating(level, model, optimizer):
            loss, sample_size, logging_output = step()
        # Summed over workers like the rest; reduce_metrics tells the levels apart by them.
        logging_output[f"loss_{level}"] = logging_output["loss"]
        logging_output[f"sample_size_{level}"] = sample_size
        with torch.no_grad():
            self.entropy = mean_entropy((model.encoder.alpha, model.decoder.alpha))
        return loss, sample_size, logging_output

    def after_update(self, model: nn.Module, optimizer: FairseqOptimizer, update_num: int) -> None:
        """Compare the workers' alpha when it has changed."""
        if optimizer.optimizer.level == ALPHA:
            compare_alpha(model, f"after update {update_num}")

    def reduce_metrics(self, logging_outputs: Iterable[Mapping[str, Any]]) -> None:
        """In training each level's loss and alpha's mean entropy."""
        for level in LEVELS:
            size = sum(log.get(f"sample_size_{level}", 0) for log in logging_outputs)
            if size > 0:
                loss = sum(log.get(f"loss_{level}", 0) for log in logging_outputs)
                # In bits, as fairseq's own loss.
                loss = loss / size / np.log(2)
                metrics.log_scalar(f"loss_{level}", loss, size, priority=15, round=3)
                metrics.log_scalar("alpha_entropy", self.entropy, priority=16, round=4, weight=0)
