"""`darts`: weights and alpha are updated alternately (Algorithm 2)."""

from .split_strategy import SplitStrategy


class Darts(SplitStrategy):
    """First-order bilevel search: weights on one part of the data, alpha on another.

    All candidates run in every update, mixed by `softmax(alpha)` (Liu et al. 2019).
    """

    name = "darts"
