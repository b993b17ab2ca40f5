"""The data of the two levels and their order."""

from .bilevel_dataset import BilevelDataset, check_sentences
from .bilevel_iterator import BilevelBatchIterator
from .binarised import check_binarised
from .data_split import DataSplit
from .documents import DocumentDataset
from .normalized_moses import NormalizedMoses

__all__ = [
    "BilevelBatchIterator",
    "BilevelDataset",
    "DataSplit",
    "DocumentDataset",
    "NormalizedMoses",
    "check_binarised",
    "check_sentences",
]
