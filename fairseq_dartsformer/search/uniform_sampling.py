"""`uniform_sampling`: one architecture per update, drawn uniformly (Guo et al. 2020, Table 1)."""

from __future__ import annotations

from random import Random

from fairseq.optim import FairseqOptimizer
from torch import nn

from ..search_space.sampling import Choice, chosen, draw
from .strategy import SearchStrategy, StepResult, remove_gradients_not_chosen


class UniformSampling(SearchStrategy):
    """Single-path one-shot: for each update, one candidate is drawn for every search node.

    All batches and workers of an update share the draw, which depends only on the seed and the
    number of the update, so that a resumed search draws the same. Alpha is not used. As in the
    authors' code, operations that were not drawn have no gradients: the optimizer changes neither
    them nor their moments.
    """

    name = "uniform_sampling"
    draws = True

    def draw(self, model: nn.Module, occasion: str) -> Choice:
        """Draw an architecture; equal occasions draw the same one."""
        return draw(model, Random(f"{self.cfg.seed} {occasion}"))

    def train_step(
        self, train_step, sample, model, criterion, optimizer, update_num, ignore_grad
    ) -> StepResult:
        """Train the operations that were drawn."""
        with chosen(model, self.draw(model, f"update {update_num}")):
            return train_step(sample, model, criterion, optimizer, update_num, ignore_grad)

    def before_optimizer_step(
        self, model: nn.Module, optimizer: FairseqOptimizer, update_num: int
    ) -> None:
        """Remove the gradients of operations that were not drawn."""
        remove_gradients_not_chosen(model, optimizer, self.draw(model, f"update {update_num}"))

    def valid_step(self, valid_step, sample, model, criterion) -> StepResult:
        """Validate each batch with its own draw, the same in every validation."""
        with chosen(model, self.draw(model, f"validation {int(sample['id'][0])}")):
            return valid_step(sample, model, criterion)
