"""Data of the two levels and its order."""

from .bilevel_dataset import BilevelDataset
from .bilevel_iterator import BilevelBatchIterator
from .division import Division

__all__ = ["BilevelBatchIterator", "BilevelDataset", "Division"]
