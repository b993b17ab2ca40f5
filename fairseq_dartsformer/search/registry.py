"""The strategies that ``--search-strategy`` knows."""

from __future__ import annotations

from ..errors import InputError, flag
from .darts import Darts
from .darts_prime import DARTSPrime
from .drnas import DrNAS
from .dsnas import DSNAS
from .gdas import GDAS
from .idarts import IDARTS
from .options import MONITOR_OPTIONS, SearchOptions
from .prune_then_search import PruneThenSearch
from .sequence_reward import SequenceReward
from .single_level import SingleLevel
from .snas import SNAS
from .strategy import SearchStrategy
from .unas import UNAS
from .uniform_sampling import UniformSampling

STRATEGIES: dict[str, type[SearchStrategy]] = {
    strategy.name: strategy
    for strategy in (
        *(Darts, UniformSampling, SingleLevel, SNAS, DSNAS, GDAS),
        *(DrNAS, IDARTS, DARTSPrime, UNAS, SequenceReward, PruneThenSearch),
    )
}
PruneThenSearch.strategies = STRATEGIES


def register_strategy(strategy: type[SearchStrategy]) -> type[SearchStrategy]:
    """Class decorator that makes a strategy available as ``--search-strategy NAME``; a name that is
    taken raises a :class:`ValueError`."""
    if strategy.name in STRATEGIES:
        raise ValueError(f"a search strategy {strategy.name!r} is registered already")
    STRATEGIES[strategy.name] = strategy
    return strategy


def build_strategy(cfg: SearchOptions) -> SearchStrategy:
    """Build the strategy that the task's options name.

    Raises:
        InputError: the name is unknown, or an option belongs to another strategy.
    """
    if cfg.search_strategy not in STRATEGIES:
        raise InputError(
            f"--search-strategy is {cfg.search_strategy}: expected one of {', '.join(STRATEGIES)}, "
            "or one that a plugin (--user-dir) registers when it is imported"
        )
    strategy = STRATEGIES[cfg.search_strategy]
    options = {name: _options(known, cfg) for name, known in STRATEGIES.items()}
    own = options[strategy.name]
    for option in sorted(set().union(*options.values()) - own):
        if cfg.get(option) is not None:  # the option may be of a plugin's task
            owners = ", ".join(name for name, has in options.items() if option in has)
            raise InputError(
                f"{flag(option)} is {cfg[option]}: it is an option of --search-strategy {owners}, "
                f"not of {strategy.name}"
            )
    for option in sorted(own):
        if option not in cfg:
            raise InputError(
                f"--search-strategy {strategy.name} needs a --task with the option {flag(option)}"
            )
    return strategy(cfg)


def _options(strategy: type[SearchStrategy], cfg: SearchOptions) -> set[str]:
    return {*strategy.options_of(cfg), *(MONITOR_OPTIONS if strategy.learns_alpha() else ())}
