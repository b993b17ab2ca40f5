"""`language_modeling_search`: architecture search on language modelling."""

from dataclasses import dataclass
from typing import Any

from fairseq.data import FairseqDataset, MonolingualDataset
from fairseq.tasks import register_task
from fairseq.tasks.language_modeling import LanguageModelingConfig, LanguageModelingTask
from omegaconf import II

from ..data import DocumentDataset
from ..errors import InputError, flag
from ..search.options import SearchOptions
from .search_task import SearchTask


@dataclass
class LanguageModelingSearchConfig(SearchOptions, LanguageModelingConfig):
    """Options of fairseq's `language_modeling` and of a search."""

    train_subset: str = II("dataset.train_subset")


@register_task("language_modeling_search", dataclass=LanguageModelingSearchConfig)
class LanguageModelingSearchTask(SearchTask, LanguageModelingTask):
    """Architecture search on a text, whose documents are divided between the levels.

    Raises:
        InputError: the strategy needs references; or as the base class.
    """

    TASK = "language_modeling"

    def __init__(self, cfg: LanguageModelingSearchConfig, *dictionaries: Any, **more: Any):
        super().__init__(cfg, *dictionaries, **more)
        if self.strategy.generates:
            names = ("search_strategy", "then_strategy", "unas_reward")
            given = " ".join(f"{flag(name)} {cfg[name]}" for name in names if cfg[name])
            raise InputError(
                f"{given} rewards translations by comparison with references, which a text does "
                "not have: use another strategy, or --task translation_search"
            )

    def eval_lm_dataloader(self, dataset: FairseqDataset, *args: Any, **kwargs: Any):
        """As in fairseq; the training split, which `fairseq-eval-lm` loads as a training does, in
        its own order."""
        if dataset is self._training_data:
            dataset = self._training_split
        return super().eval_lm_dataloader(dataset, *args, **kwargs)

    def divisible(self, dataset: MonolingualDataset) -> DocumentDataset:
        """As the base class describes it."""
        return DocumentDataset(
            dataset,
            block_size=self.cfg.tokens_per_sample,
            pad=self.dictionary.pad(),
            eos=self.dictionary.eos(),
            break_mode=self.cfg.sample_break_mode,
            include_targets=True,
        )
