"""Data of the two levels and its order."""

from .bilevel_dataset import BilevelDataset
from .bilevel_iterator import BilevelBatchIterator

__all__ = ["BilevelBatchIterator", "BilevelDataset"]
