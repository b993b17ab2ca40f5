"""`single_level`: weights and alpha in one update (Hou et al. 2021, arXiv:2108.08128)."""

from fairseq_dartsformer.search.registry import register_strategy
from fairseq_dartsformer.search.strategy import SearchStrategy
from fairseq_dartsformer.search_space.levels import LEVELS


@register_strategy
class SingleLevel(SearchStrategy):
    """Every update moves both levels with one optimizer, on all training data."""

    name = "single_level"
    levels = LEVELS
