"""The data of the two levels and their order."""

from .bilevel_dataset import BilevelDataset, check_sentences
from .bilevel_iterator import BilevelBatchIterator
from .data_split import DataSplit, is_empty

__all__ = ["BilevelBatchIterator", "BilevelDataset", "DataSplit", "check_sentences", "is_empty"]
