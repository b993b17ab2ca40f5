"""`every_kth`: both levels train on the same data, alpha only in every k-th update.

The task `every_kth_search` adds the strategy's option.
"""

from dataclasses import dataclass, field
from typing import Optional

from fairseq.tasks import register_task

from fairseq_dartsformer.errors import InputError
from fairseq_dartsformer.search.registry import register_strategy
from fairseq_dartsformer.search.strategy import SearchStrategy
from fairseq_dartsformer.search_space.levels import ALPHA, LEVELS, WEIGHTS
from fairseq_dartsformer.tasks import TranslationSearchTask
from fairseq_dartsformer.tasks.translation_search import TranslationSearchConfig


@dataclass
class EveryKthConfig(TranslationSearchConfig):
    """Options of `every_kth_search`."""

    alpha_every: Optional[int] = field(
        default=None,  # other strategies refuse any other value
        metadata={"help": "every_kth: every k-th update is alpha's (default: 2)"},
    )


@register_task("every_kth_search", dataclass=EveryKthConfig)
class EveryKthTask(TranslationSearchTask):
    """`translation_search` with one more option."""


@register_strategy
class EveryKth(SearchStrategy):
    """Bilevel search on shared data: the last of every k updates is alpha's."""

    name = "every_kth"
    levels = LEVELS
    optimizer = "bilevel_adam"
    options = ("alpha_every",)

    def check(self) -> None:
        """Read the option.

        Raises:
            InputError: ``--alpha-every`` is not positive.
        """
        self.every = 2 if self.cfg.alpha_every is None else self.cfg.alpha_every
        if self.every < 1:
            raise InputError(f"--alpha-every is {self.every}, it must be at least 1")

    def train_step(self, train_step, sample, model, criterion, optimizer, update_num, ignore_grad):
        """Train one level, which depends only on the number of the update."""
        level = WEIGHTS if (update_num + 1) % self.every else ALPHA
        with self.updating([level], model, optimizer):
            return train_step(sample, model, criterion, optimizer, update_num, ignore_grad)
