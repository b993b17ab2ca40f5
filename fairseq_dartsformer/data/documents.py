"""Text that is divided between the levels by documents, and cut into windows afterwards."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from copy import copy
from hashlib import blake2b
from typing import Any

import numpy as np
from fairseq.data import BaseWrapperDataset, MonolingualDataset, TokenBlockDataset
from fairseq.data.shorten_dataset import TruncateDataset
from torch import Tensor
from tqdm import tqdm

from .binarised import prefetch_all

BLANK = 1  # length of a line without words: it has the end of the line alone


class DocumentDataset(BaseWrapperDataset):
    """Windows of a text that can be cut again from some of its documents.

    A window may extend over several documents, so windows cannot be divided by document.

    Args:
        windows: fairseq's windows of lines.
        blocks: arguments of fairseq's ``TokenBlockDataset`` that made them, without the lines.
    """

    def __init__(self, windows: MonolingualDataset, **blocks: Any):
        super().__init__(windows)
        self.blocks = blocks
        self.lines = windows.dataset.dataset
        self.document = documents_of(self.lines.sizes)

    def keys(self) -> np.ndarray:
        """Return a 64-bit key for every document: equal documents have equal keys."""
        shortened = isinstance(self.lines, TruncateDataset)
        lines = self.lines.dataset if shortened else self.lines
        starts = np.flatnonzero(np.diff(self.document, prepend=-1))
        ends = [*starts[1:], len(self.document)]
        prefetch_all(lines)
        pairs = tqdm(zip(starts, ends, strict=True), "comparing documents", delay=5, disable=None)
        return np.fromiter((key(lines, *pair) for pair in pairs), np.uint64, len(starts))

    def windows_of(self, documents: np.ndarray) -> MonolingualDataset:
        """Return the windows of some documents alone, given their numbers."""
        lines = LineSubset(self.lines, np.flatnonzero(np.isin(self.document, documents)))
        windows = copy(self.dataset)
        windows.dataset = TokenBlockDataset(lines, lines.sizes, **self.blocks)
        windows.sizes = np.array(windows.dataset.sizes)
        return windows


class LineSubset(BaseWrapperDataset):
    """Some of the lines of a text, in the same order.

    Args:
        lines: the text.
        indices: of the lines.
    """

    def __init__(self, lines: BaseWrapperDataset, indices: np.ndarray):
        super().__init__(lines)
        self.indices = indices

    def __getitem__(self, index: int) -> Tensor:
        return self.dataset[self.indices[index]]

    def __len__(self) -> int:
        return len(self.indices)

    def prefetch(self, indices: Iterable[int]) -> None:
        """Have the text read some of the lines."""
        self.dataset.prefetch([self.indices[i] for i in indices])

    @property
    def sizes(self) -> np.ndarray:
        """Length of each line."""
        return np.asarray(self.dataset.sizes)[self.indices]


def documents_of(sizes: Sequence[int]) -> np.ndarray:
    """Return the number of each line's document, given the lengths of the lines.

    Blank lines separate documents, and belong to the one before; those at the start belong to the
    first. A text without blank lines has a document a line.
    """
    blank = np.asarray(sizes) <= BLANK
    if not blank.any():
        return np.arange(len(blank))
    # A document begins at a line with words after a blank one.
    begins = ~blank & np.concatenate([[False], blank[:-1]])
    return np.maximum(np.cumsum(begins) - blank[0], 0)


def key(lines: Sequence[Tensor], start: int, end: int) -> int:
    """Compute the key of the lines from ``start`` to before ``end``; blank ones do not count."""
    digest = blake2b(digest_size=8)
    for line in (lines[i] for i in range(start, end)):
        if len(line) > BLANK:
            digest.update(line.numpy().tobytes())
    return int.from_bytes(digest.digest(), "little")
