"""`every_kth`: as `darts`, upon the same data for both levels, and alpha only in every k-th update.

Its option needs a task that has it, `every_kth_search`.
"""

from dataclasses import dataclass, field
from typing import Optional

from fairseq.tasks import register_task

from fairseq_dartsformer.errors import InputError
from fairseq_dartsformer.search.registry import register_strategy
from fairseq_dartsformer.search.strategy import SearchStrategy
from fairseq_dartsformer.search.worker_agreement import compare_alpha
from fairseq_dartsformer.search_space.levels import ALPHA, LEVELS, WEIGHTS
from fairseq_dartsformer.tasks import TranslationSearchTask
from fairseq_dartsformer.tasks.translation_search import TranslationSearchConfig


@dataclass
class EveryKthConfig(TranslationSearchConfig):
    """Options of `every_kth_search`."""

    alpha_every: Optional[int] = field(
        default=None,  # else the other strategies would refuse what nobody has given
        metadata={"help": "every_kth: alpha has every so many-th update (default: 2)"},
    )


@register_task("every_kth_search", dataclass=EveryKthConfig)
class EveryKthTask(TranslationSearchTask):
    """`translation_search` with one more option."""


@register_strategy
class EveryKth(SearchStrategy):
    """Bilevel search whose levels share their data; alpha has the last of every k updates.

    Raises:
        InputError: ``--alpha-every`` is not positive.
    """

    name = "every_kth"
    levels = LEVELS
    optimizer = "bilevel_adam"
    options = ("alpha_every",)

    def check(self) -> None:
        """Read the option."""
        self.every = 2 if self.cfg.alpha_every is None else self.cfg.alpha_every
        if self.every < 1:
            raise InputError(f"--alpha-every is {self.every}, it must be at least 1")

    def train_step(self, step, sample, model, optimizer, update_num, ignore_grad):
        """One level's; which one follows from the number of the update, for all workers alike."""
        level = WEIGHTS if (update_num + 1) % self.every else ALPHA
        with self.updating(level, model, optimizer):
            return step()

    def after_update(self, model, optimizer, update_num) -> None:
        """Compare the workers' alpha."""
        compare_alpha(model, f"after update {update_num}")
