"""How a supernet is trained: the strategies of ``--search-strategy``, a file each.

To add one, write a file with a subclass of :class:`SearchStrategy` and name it in the table below.
A strategy says which levels its updates have, which data and batches they are made on, what one
forward and backward pass is, and what it logs; the base class trains the weights on all of the
training data, the supernet mixing its candidates by an alpha that stays as it began. It may run one
candidate a search node instead (:func:`..search_space.chosen`). Its own options are fields of
``TranslationSearchConfig`` which it names in ``options``; the other strategies then refuse them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import InputError
from .base import SearchStrategy
from .darts import Darts
from .uniform_sampling import UniformSampling

if TYPE_CHECKING:
    from ..tasks.translation_search import TranslationSearchConfig

__all__ = ["STRATEGIES", "SearchStrategy", "build_strategy"]

STRATEGIES: dict[str, type[SearchStrategy]] = {
    strategy.name: strategy for strategy in (Darts, UniformSampling)
}


def build_strategy(cfg: TranslationSearchConfig) -> SearchStrategy:
    """The strategy of the task's options.

    Raises:
        InputError: options that it does not have, or cannot go by.
    """
    strategy = STRATEGIES[str(cfg.search_strategy)]
    for other in STRATEGIES.values():
        for option in other.options:
            if option not in strategy.options and cfg[option] is not None:
                raise InputError(
                    f"--{option.replace('_', '-')} is {cfg[option]}, which --search-strategy "
                    f"{other.name} knows and {strategy.name} does not: leave it out"
                )
    return strategy(cfg)
