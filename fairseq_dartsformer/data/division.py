"""Which training data are whose: the weights' or alpha's (Section 3.2)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from fairseq import utils
from fairseq.data import LanguagePairDataset, data_utils

from ..errors import InputError
from ..levels import ALPHA, LEVELS, WEIGHTS
from .bilevel_dataset import BilevelDataset

if TYPE_CHECKING:
    from ..tasks.translation_search import TranslationSearchConfig, TranslationSearchTask

DEFAULT_ARCH_FRACTION = 2.0 / 4.5  # 4.5M pairs, 2.5M for theta and 2.0M for alpha


@dataclass(frozen=True)
class Division:
    """Alpha has a fraction of the training sentences, or a split of its own.

    Attributes:
        fraction: alpha's, by sentence, drawn by the seed.
        seed: of that.
        subset: the name of alpha's split in place of a fraction; the weights then have all of the
            training data.
    """

    fraction: float
    seed: int
    subset: str | None = None

    @classmethod
    def of(cls, cfg: TranslationSearchConfig) -> Division:
        """The division that the options ask for.

        Raises:
            InputError: they contradict each other or are out of range.
        """
        fraction, subset = cfg.arch_fraction, cfg.arch_subset
        if subset is not None and fraction is not None:
            raise InputError("--arch-subset and --arch-fraction exclude each other: give one")
        if fraction is not None and not 0 < fraction < 1:
            raise InputError(f"--arch-fraction is {fraction}, it must lie between 0 and 1")
        if subset is not None:
            _check_disjoint(subset, cfg.train_subset)
        return cls(fraction or DEFAULT_ARCH_FRACTION, cfg.seed, subset)

    def __str__(self) -> str:
        """The options that decide which sentences are whose."""
        if self.subset is not None:
            return f"--arch-subset {self.subset}"
        return f"--arch-fraction {self.fraction:g} and --seed {self.seed}"

    def divide(
        self, task: TranslationSearchTask, train: LanguagePairDataset, epoch: int
    ) -> BilevelDataset:
        """The data of both levels, from the training split of an epoch.

        Raises:
            InputError: alpha's or the weights' do not exist or are empty.
        """
        if self.subset is None:
            return BilevelDataset(dict.fromkeys(LEVELS, train), self._members(len(train)))
        datasets = {WEIGHTS: train, ALPHA: self._load_subset(task, epoch)}
        return BilevelDataset(
            datasets, {level: np.arange(len(datasets[level])) for level in LEVELS}
        )

    def _members(self, sentences: int) -> dict[str, np.ndarray]:
        """Divide so many sentences."""
        count = round(self.fraction * sentences)
        if not 0 < count < sentences:
            raise InputError(
                f"--arch-fraction {self.fraction:g} of {sentences} training sentences leaves "
                f"{count} to alpha and {sentences - count} to the weights: each needs one at least"
            )
        with data_utils.numpy_seed(self.seed):
            order = np.random.permutation(sentences)
        return {ALPHA: np.sort(order[:count]), WEIGHTS: np.sort(order[count:])}

    def _load_subset(self, task: TranslationSearchTask, epoch: int) -> LanguagePairDataset:
        folder = utils.split_paths(task.cfg.data)[0]
        # fairseq cannot open an empty one.
        if any(path.stat().st_size == 0 for path in Path(folder).glob(f"{self.subset}.*.bin")):
            raise InputError(f"--arch-subset is {self.subset!r}, which is empty")
        try:
            task.load_dataset(self.subset, epoch=epoch)
        except FileNotFoundError:
            raise InputError(
                f"--arch-subset is {self.subset!r}, but there is no such binarised split in "
                f"{folder}"
            ) from None
        return task.datasets[self.subset]


def _check_disjoint(subset: str, train: str) -> None:
    """Refuse a split of alpha's that the weights are updated on, too."""
    if subset == train:
        raise InputError(
            f"--arch-subset is {subset!r}, the weights' own data; to divide them use "
            "--arch-fraction"
        )
    if re.fullmatch(re.escape(train) + r"\d+", subset):
        raise InputError(
            f"--arch-subset is {subset!r}, which fairseq reads as a part of {train!r}, the "
            "weights' own data: give the split a name without a number"
        )
