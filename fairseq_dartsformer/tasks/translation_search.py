"""`translation_search`: architecture search on translation."""

from collections.abc import Sequence
from dataclasses import dataclass

from fairseq.tasks import register_task
from fairseq.tasks.translation import TranslationConfig, TranslationTask

from ..search.options import SearchOptions
from .search_task import SearchTask


@dataclass
class TranslationSearchConfig(SearchOptions, TranslationConfig):
    """Options of fairseq's `translation` and of a search."""


@register_task("translation_search", dataclass=TranslationSearchConfig)
class TranslationSearchTask(SearchTask, TranslationTask):
    """Architecture search on translation."""

    TASK = "translation"

    def languages(self) -> Sequence[str]:
        """Return source and target."""
        return self.cfg.source_lang, self.cfg.target_lang
