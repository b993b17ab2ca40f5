"""How a supernet is trained: a strategy a file, and what they are composed of.

To add a strategy, write a subclass of :class:`SearchStrategy` under :func:`register_strategy`. Its
own options are fields of the task's dataclass that its ``options`` lists.
"""

from .registry import STRATEGIES, build_strategy, register_strategy
from .strategy import SearchStrategy, StepResult

__all__ = ["STRATEGIES", "SearchStrategy", "StepResult", "build_strategy", "register_strategy"]
