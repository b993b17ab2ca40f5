"""One dataset for the data of both levels."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from fairseq.data import BaseWrapperDataset, ConcatDataset, FairseqDataset

from ..errors import InputError
from ..search_space.levels import LEVELS


class LevelDataset(BaseWrapperDataset):
    """The samples of one level, whose name every sample and every batch carry.

    Args:
        dataset: has the samples, perhaps among others: sentence pairs, or windows of a text.
        level: the level.
        members: the indices that belong to the level.
    """

    def __init__(self, dataset: FairseqDataset, level: str, members: np.ndarray):
        super().__init__(dataset)
        self.level, self.members = level, members

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {**self.dataset[index], "level": self.level}

    def collater(self, samples: Sequence[dict[str, Any]]) -> dict[str, Any]:
        return {**self.dataset.collater(samples), "level": self.level}

    def ordered_indices(self) -> np.ndarray:
        """The level's indices, shuffled, then sorted by length."""
        ordered = self.dataset.ordered_indices()
        return ordered[np.isin(ordered, self.members)]

    def filter_indices_by_size(self, indices: np.ndarray, max_sizes: Any):
        """Filter as fairseq does; raise an :class:`InputError` if no sentence is left."""
        kept, ignored = super().filter_indices_by_size(indices, max_sizes)
        check_sentences(kept, f"update {self.level} on", max_sizes)
        return kept, ignored

    def batch_by_size(self, indices: np.ndarray, **limits: Any) -> list[np.ndarray]:
        """Make batches as fairseq does; raise an :class:`InputError` if there are none."""
        batches = super().batch_by_size(indices, **limits)
        if len(batches) == 0:
            raise InputError(
                f"the {len(indices)} sentences to update {self.level} on are too few for a batch "
                f"of --required-batch-size-multiple {limits['required_batch_size_multiple']}"
            )
        return batches


class BilevelDataset(ConcatDataset):
    """Samples of L_train and L_val; every batch belongs to one level and carries its name.

    The index of a sample is the index in its level's dataset; alpha's are shifted by the length of
    the weights' dataset.

    Args:
        datasets: the dataset of each level; both may be the same object.
        members: the indices that belong to each level; all by default.
        fingerprint: identifies the content and order of the data.

    Attributes:
        levels: the dataset of each level alone.
    """

    def __init__(
        self,
        datasets: Mapping[str, FairseqDataset],
        members: Mapping[str, np.ndarray] | None = None,
        fingerprint: str = "",
    ):
        if members is None:
            members = {level: np.arange(len(datasets[level])) for level in LEVELS}
        self.levels = {
            level: LevelDataset(datasets[level], level, members[level]) for level in LEVELS
        }
        super().__init__(self.levels.values())
        self.members, self.fingerprint = members, fingerprint

    def collater(self, samples: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """Collate as fairseq does, and add the batch's ``level``."""
        if len(samples) == 0:
            return {}
        (level,) = {sample["level"] for sample in samples}
        return self.levels[level].collater(samples)


def check_sentences(indices: np.ndarray, purpose: str, max_positions: Any) -> None:
    """Raise an :class:`InputError` if there is no sentence."""
    if len(indices) == 0:
        raise InputError(
            f"no sentence is left to {purpose}: the split is empty, or all sentences, or windows "
            "of a text, are longer than --max-tokens, --max-source-positions, "
            f"--max-target-positions or, of a text, --tokens-per-sample allow: {max_positions}"
        )
