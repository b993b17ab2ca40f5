"""The data of the two levels and their order."""

from .bilevel_dataset import BilevelDataset, check_sentences
from .bilevel_iterator import BilevelBatchIterator
from .binarised import check_binarised
from .data_split import DataSplit

__all__ = [
    "BilevelBatchIterator",
    "BilevelDataset",
    "DataSplit",
    "check_binarised",
    "check_sentences",
]
