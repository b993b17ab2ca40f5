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
    """Every update moves both levels with one optimizer, on all training data."""

    name = "single_level"
    levels = LEVELS
    options = ("warn_skip_share", "stop_skips", "stop_entropy", "stop_unchanged")

    def check(self) -> None:
        """The entropy is known after the first update."""
        self.entropy: torch.Tensor | None = None

    def after_update(self, model: nn.Module, optimizer: FairseqOptimizer, update_num: int) -> None:
        """Check that all workers have the same alpha; compute its entropy for the log."""
        compare_alpha(model, f"after update {update_num}")
        with torch.no_grad():
            self.entropy = mean_entropy((model.encoder.alpha, model.decoder.alpha))

    def reduce_metrics(self, logging_outputs: list[dict[str, Any]]) -> None:
        """Log alpha's mean entropy in nats; validation before the first update has none."""
        if self.entropy is not None:
            metrics.log_scalar("alpha_entropy", self.entropy, round=4, weight=0)
