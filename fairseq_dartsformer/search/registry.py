"""The strategies that ``--search-strategy`` knows."""

from __future__ import annotations

from ..errors import InputError, flag
from .darts import Darts
from .options import SearchOptions
from .strategy import SearchStrategy
from .uniform_sampling import UniformSampling

STRATEGIES: dict[str, type[SearchStrategy]] = {}


def register_strategy(strategy: type[SearchStrategy]) -> type[SearchStrategy]:
    """Class decorator: ``--search-strategy`` then knows the strategy by its ``name``.

    Raises:
        ValueError: the name is taken.
    """
    if strategy.name in STRATEGIES:
        raise ValueError(f"a search strategy {strategy.name!r} is registered already")
    STRATEGIES[strategy.name] = strategy
    return strategy


for strategy in (Darts, UniformSampling):
    register_strategy(strategy)


def build_strategy(cfg: SearchOptions) -> SearchStrategy:
    """The strategy that the task's options name.

    Raises:
        InputError: there is none of that name, or an option belongs to another strategy.
    """
    if cfg.search_strategy not in STRATEGIES:
        raise InputError(
            f"--search-strategy is {cfg.search_strategy}: expected one of {', '.join(STRATEGIES)}, "
            "or the strategy of a plugin (--user-dir) whose __init__.py imports it"
        )
    strategy = STRATEGIES[cfg.search_strategy]
    for other in STRATEGIES.values():
        for option in other.options:
            # A plugin's strategy may have options of its own task.
            if option in cfg and option not in strategy.options and cfg[option] is not None:
                raise InputError(
                    f"{flag(option)} is {cfg[option]}, an option of --search-strategy "
                    f"{other.name}, which {strategy.name} does not have: leave it out"
                )
    return strategy(cfg)
