"""How a supernet is trained: the strategies of ``--search-strategy``, a file each.

To add one, write a subclass of :class:`SearchStrategy` under :func:`register_strategy`.
A strategy says which levels its updates have, which data and batches they are made on, what one
forward and backward pass is, and what it logs; the base class trains the weights on all of the
training data, the supernet mixing its candidates by an alpha that stays as it began. It may run one
candidate a search node instead (:func:`..search_space.chosen`). Its own options are fields of the
task's dataclass which it names in ``options``; the other strategies then refuse them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..errors import InputError, flag
from ..levels import LEVELS
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

    It takes no argument: the name is the class's ``name``.

    Raises:
        TypeError: it decorates something else, or an attribute is not of its type.
        ValueError: the name is taken, or there is no such level.
    """
    if not (isinstance(strategy, type) and issubclass(strategy, SearchStrategy)):
        raise TypeError(
            "@register_strategy stands without an argument above a subclass of SearchStrategy, "
            f"whose attribute `name` is the strategy's name; it was given {strategy!r}"
        )
    if not isinstance(getattr(strategy, "name", None), str):
        raise TypeError(f"the strategy {strategy.__name__} needs a `name`, which is a string")
    for attribute in ("levels", "options"):
        _check_strings(strategy, attribute)
    if not set(strategy.levels) or not set(strategy.levels) <= set(LEVELS):
        raise ValueError(
            f"{strategy.__name__}.levels is {strategy.levels}: expected one or more of {LEVELS}"
        )
    if strategy.name in STRATEGIES:
        raise ValueError(f"there is a search strategy {strategy.name!r} already")
    STRATEGIES[strategy.name] = strategy
    return strategy


def _check_strings(strategy: type[SearchStrategy], attribute: str) -> None:
    """Raise a :class:`TypeError` unless the attribute is a tuple of strings."""
    value: Any = getattr(strategy, attribute)
    # A pair of brackets without a comma makes none.
    if not isinstance(value, tuple) or not all(isinstance(entry, str) for entry in value):
        raise TypeError(
            f"{strategy.__name__}.{attribute} is {value!r}: expected a tuple of strings"
        )


def build_strategy(cfg: TranslationSearchConfig) -> SearchStrategy:
    """The strategy of the task's options.

    Raises:
        InputError: there is none of that name, or options that it does not have or cannot go by.
    """
    if cfg.search_strategy not in STRATEGIES:
        raise InputError(
            f"--search-strategy is {cfg.search_strategy}: expected one of {', '.join(STRATEGIES)}, "
            "or a plugin's (--user-dir), whose __init__.py imports it"
        )
    strategy = STRATEGIES[cfg.search_strategy]
    for option in strategy.options:
        if option not in cfg:
            raise InputError(
                f"--search-strategy {strategy.name} has the option {flag(option)}, which --task "
                f"{cfg._name} does not have: take a task whose dataclass has that field"
            )
    for other in STRATEGIES.values():
        for option in other.options:
            # A plugin's strategy may have options of a task of its own.
            if option in cfg and option not in strategy.options and cfg[option] is not None:
                raise InputError(
                    f"{flag(option)} is {cfg[option]}, which --search-strategy {other.name} knows "
                    f"and {strategy.name} does not: leave it out"
                )
    return strategy(cfg)
