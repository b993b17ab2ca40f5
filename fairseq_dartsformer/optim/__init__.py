"""The optimizer of the bilevel search."""

from .bilevel_adam import BilevelAdam

__all__ = ["BilevelAdam"]
