"""How a supernet is trained: the strategies of ``--search-strategy``, a file each.

To add one, write a file with a subclass of :class:`SearchStrategy` and name it in the table below.
A strategy says which levels its updates have, which data and batches they are made on, what one
forward and backward pass is, and what it logs; the base class trains the weights on all of the
training data, the supernet mixing its candidates by an alpha that stays as it began. What it runs
may be any mixture of the candidates (:func:`..search_space.chosen`). Options of its own go to
``TranslationSearchConfig``, and are refused by the strategies that do not know them.
"""

from .base import SearchStrategy
from .darts import Darts
from .uniform_sampling import UniformSampling

__all__ = ["STRATEGIES", "SearchStrategy"]

STRATEGIES: dict[str, type[SearchStrategy]] = {
    strategy.name: strategy for strategy in (Darts, UniformSampling)
}
