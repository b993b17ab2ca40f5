"""How a supernet is trained: the strategies of ``--search-strategy``, a file each.

To add one, write a subclass of :class:`SearchStrategy` under :func:`register_strategy`.
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

__all__ = ["STRATEGIES", "SearchStrategy", "build_strategy", "register_strategy"]

STRATEGIES: dict[str, type[SearchStrategy]] = {
    strategy.name: strategy for strategy in (Darts, UniformSampling)
}


def register_strategy(strategy: type[SearchStrategy]) -> type[SearchStrategy]:
    """Decorator of a strategy, which ``--search-strategy`` then knows by its name.

    Raises:
        ValueError: the name is taken.
    """
    if strategy.name in STRATEGIES:
        raise ValueError(f"there is a search strategy {strategy.name!r} already")
    STRATEGIES[strategy.name] = strategy
    return strategy


def build_strategy(cfg: TranslationSearchConfig) -> SearchStrategy:
    """The strategy of the task's options.

    Raises:
        InputError: there is none of that name, or options that it does not have or cannot go by.
    """
    if cfg.search_strategy not in STRATEGIES:
        raise InputError(
            f"--search-strategy is {cfg.search_strategy}: expected one of {', '.join(STRATEGIES)}"
        )
    strategy = STRATEGIES[cfg.search_strategy]
    for other in STRATEGIES.values():
        for option in other.options:
            if option not in strategy.options and cfg[option] is not None:
                raise InputError(
                    f"--{option.replace('_', '-')} is {cfg[option]}, which --search-strategy "
                    f"{other.name} knows and {strategy.name} does not: leave it out"
                )
    return strategy(cfg)
