"""`single_level`: weights and alpha in one update (Hou et al. 2021, arXiv:2108.08128)."""

from __future__ import annotations

from typing import Any

import torch
from fairseq.logging import metrics
from fairseq.optim import FairseqOptimizer
from torch import nn

from fairseq_dartsformer.search.registry import register_strategy
from fairseq_dartsformer.search.strategy import SearchStrategy
from fairseq_dartsformer.search.worker_agreement import compare_alpha
from fairseq_dartsformer.search_space.alpha import mean_entropy
from fairseq_dartsformer.search_space.levels import LEVELS


@register_strategy
class SingleLevel(SearchStrategy):
    """Every update moves both levels, on all of the training data, by one optimizer."""

    name = "single_level"
    levels = LEVELS  # what takes gradients, and that a genotype can be derived from alpha
    options = ("warn_skip_share", "stop_skips", "stop_entropy", "stop_unchanged")

    def check(self) -> None:
        """Nothing to refuse; the entropy is known after the first update."""
        self.entropy: torch.Tensor | None = None

    def after_update(self, model: nn.Module, optimizer: FairseqOptimizer, update_num: int) -> None:
        """Compare the workers' alpha."""
        compare_alpha(model, f"after update {update_num}")

    def train_step(self, step, sample, model, optimizer, update_num, ignore_grad):
        """fairseq's forward and backward pass; what alpha is like is noted for the log."""
        with torch.no_grad():
            self.entropy = mean_entropy((model.encoder.alpha, model.decoder.alpha))
        return step()

    def reduce_metrics(self, logging_outputs: list[dict[str, Any]]) -> None:
        """alpha's mean entropy, in nats; validation calls this, too, and knows none at first."""
        if self.entropy is not None:
            metrics.log_scalar("alpha_entropy", self.entropy, round=4, weight=0)
