"""The search tasks."""

from .language_modeling_search import LanguageModelingSearchTask
from .search_task import SearchTask
from .translation_search import TranslationSearchTask

__all__ = ["LanguageModelingSearchTask", "SearchTask", "TranslationSearchTask"]
