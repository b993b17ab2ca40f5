"""One dataset for the data of both levels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from fairseq.data import FairseqDataset, LanguagePairDataset

from ..errors import InputError
from ..search_space.levels import ALPHA, LEVELS, WEIGHTS


class BilevelDataset(FairseqDataset):
    """Sentence pairs of L_train and L_val; every batch belongs to one level and carries its name.

    The index of a sample is the index in its level's dataset; alpha's are shifted by an offset.

    Args:
        datasets: the dataset of each level; both may be the same object.
        members: the indices that belong to each level.
        fingerprint: identifies the content and order of the data.
    """

    def __init__(
        self,
        datasets: Mapping[str, LanguagePairDataset],
        members: Mapping[str, np.ndarray],
        fingerprint: str = "",
    ):
        super().__init__()
        self.fingerprint = fingerprint
        self.datasets = dict(datasets)
        self.members = dict(members)
        self.offsets = {WEIGHTS: 0, ALPHA: len(datasets[WEIGHTS])}

    def _locate(self, index: int) -> tuple[str, int]:
        level = ALPHA if index >= self.offsets[ALPHA] else WEIGHTS
        return level, index - self.offsets[level]

    def __getitem__(self, index: int) -> dict[str, Any]:
        level, index = self._locate(index)
        return {**self.datasets[level][index], "level": level}

    def __len__(self) -> int:
        return self.offsets[ALPHA] + len(self.datasets[ALPHA])

    def num_tokens(self, index: int) -> int:
        level, index = self._locate(index)
        return self.datasets[level].num_tokens(index)

    def size(self, index: int):
        level, index = self._locate(index)
        return self.datasets[level].size(index)

    def collater(self, samples: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """Collate as fairseq does, and add the batch's ``level``."""
        if len(samples) == 0:
            return {}
        (level,) = {sample["level"] for sample in samples}
        return {**self.datasets[level].collater(samples), "level": level}

    @property
    def supports_prefetch(self) -> bool:
        return any(getattr(d, "supports_prefetch", False) for d in self.datasets.values())

    def prefetch(self, indices: Sequence[int]) -> None:
        located = [self._locate(i) for i in indices]
        if self.datasets[WEIGHTS] is self.datasets[ALPHA]:
            located = [(WEIGHTS, i) for _, i in located]
        for level in LEVELS:
            wanted = sorted({i for of, i in located if of == level})
            if wanted:
                self.datasets[level].prefetch(wanted)

    def set_epoch(self, epoch: int) -> None:
        super().set_epoch(epoch)
        for dataset in self.datasets.values():
            dataset.set_epoch(epoch)

    def ordered_members(self, level: str) -> np.ndarray:
        """The level's indices in its own dataset, shuffled, then sorted by length."""
        ordered = self.datasets[level].ordered_indices()
        return ordered[np.isin(ordered, self.members[level])]

    def level_batches(
        self, level: str, indices: np.ndarray, required_batch_size_multiple: int, **limits: Any
    ) -> list[list[int]]:
        """Make batches from ``indices`` of a level's own dataset, as indices of this dataset.

        The remaining arguments are those of ``batch_by_size``.

        Raises:
            InputError: there are too few sentences for a batch.
        """
        batches = self.datasets[level].batch_by_size(
            indices, required_batch_size_multiple=required_batch_size_multiple, **limits
        )
        if len(batches) == 0:
            raise InputError(
                f"the {len(indices)} sentences to update {level} on are too few for a batch of "
                f"--required-batch-size-multiple {required_batch_size_multiple}"
            )
        return [[int(i) + self.offsets[level] for i in batch] for batch in batches]
