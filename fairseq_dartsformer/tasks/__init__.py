"""The search task."""

from .translation_search import TranslationSearchTask

__all__ = ["TranslationSearchTask"]
