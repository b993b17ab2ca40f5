"""Which training sentences belong to the weights and which to alpha (Section 3.2)."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import numpy as np
from fairseq.data import LanguagePairDataset, data_utils
from tqdm import tqdm

from ..errors import InputError
from ..search_space.levels import ALPHA, LEVELS, WEIGHTS
from .bilevel_dataset import BilevelDataset

logger = logging.getLogger(__name__)

DEFAULT_ARCH_FRACTION = 2.0 / 4.5  # 4.5M pairs: 2.5M for theta and 2.0M for alpha


@dataclass(frozen=True)
class DataSplit:
    """Alpha has a fraction of the training sentences, or a binarised split of its own.

    Attributes:
        fraction: alpha's fraction, by sentence.
        seed: seed of the draw.
        subset: name of alpha's split, instead of a fraction; the weights then have all training
            data.
    """

    fraction: float
    seed: int
    subset: str | None = None

    @classmethod
    def from_options(
        cls, fraction: float | None, subset: str | None, seed: int, train: str
    ) -> DataSplit:
        """The split that the options ask for.

        Args:
            fraction: ``--arch-fraction``.
            subset: ``--arch-subset``.
            seed: ``--seed``.
            train: ``--train-subset``.

        Raises:
            InputError: they exclude each other or are out of range.
        """
        if subset is not None and fraction is not None:
            raise InputError("--arch-subset and --arch-fraction exclude each other: give one")
        if fraction is not None and not 0 < fraction < 1:
            raise InputError(f"--arch-fraction is {fraction}, it must lie between 0 and 1")
        if subset == train:
            raise InputError(
                f"--arch-subset is {subset!r}, the weights' own data: use --arch-fraction to "
                "divide them"
            )
        if subset is not None and re.fullmatch(re.escape(train) + r"\d+", subset):
            raise InputError(
                f"--arch-subset is {subset!r}, which fairseq reads as a part of {train!r}, the "
                "weights' own data: give the split a name without a number"
            )
        return cls(DEFAULT_ARCH_FRACTION if fraction is None else fraction, seed, subset)

    def divide(
        self, train: LanguagePairDataset, load_split: Callable[[str], LanguagePairDataset]
    ) -> BilevelDataset:
        """The data of both levels.

        Args:
            train: the training split, or the shard of an epoch.
            load_split: loads another split by its name.

        Raises:
            InputError: a level has no sentence, or alpha's split does not exist.
        """
        keys = pair_keys(train)
        if self.subset is None:
            datasets = dict.fromkeys(LEVELS, train)
            members = self._members(keys)
            all_keys = [keys]
        else:
            datasets = {WEIGHTS: train, ALPHA: load_split(self.subset)}
            members = {level: np.arange(len(datasets[level])) for level in LEVELS}
            all_keys = [keys, pair_keys(datasets[ALPHA])]
            shared = int(np.isin(all_keys[1], keys).sum())
            if shared:
                logger.warning(
                    f"{shared} of {len(all_keys[1])} sentence pairs of --arch-subset {self.subset} "
                    "are in the training data too, on which the weights are updated"
                )
        fingerprint = blake2b(b"".join(k.tobytes() for k in all_keys), digest_size=16).hexdigest()
        return BilevelDataset(datasets, members, self.identity(fingerprint))

    def _members(self, keys: np.ndarray) -> dict[str, np.ndarray]:
        """Each level's indices. All copies of a pair follow the first one."""
        sentences = len(keys)
        count = round(self.fraction * sentences)
        with data_utils.numpy_seed(self.seed):
            order = np.random.permutation(sentences)
        of_alpha = np.zeros(sentences, dtype=bool)
        of_alpha[order[:count]] = True
        _, first, copies = np.unique(keys, return_index=True, return_inverse=True)
        of_alpha = of_alpha[first][copies]
        members = {ALPHA: np.flatnonzero(of_alpha), WEIGHTS: np.flatnonzero(~of_alpha)}
        if not all(map(len, members.values())):
            raise InputError(
                f"--arch-fraction {self.fraction:g} of {len(first)} different training sentences "
                f"leaves {len(members[ALPHA])} to alpha and {len(members[WEIGHTS])} to the "
                "weights: each needs at least one"
            )
        return members

    def identity(self, fingerprint: str) -> dict[str, Any]:
        """What decides which sentences belong to which level; plain types, for checkpoints."""
        which = {"--arch-subset": self.subset}
        if self.subset is None:
            which = {"--arch-fraction": self.fraction, "--seed": self.seed}
        return {**which, "training data": fingerprint}


def check_same_split(now: Mapping[str, Any], state: Mapping[str, Any]) -> None:
    """Check that a search goes on with the data that it began with, divided as they were.

    Args:
        now: :meth:`DataSplit.identity` of this run.
        state: the iterator's state in a checkpoint.

    Raises:
        InputError: the data or the division differ.
    """
    saved = state.get("data_split")
    if saved is None:  # version 0.1 kept the options as text, and nothing of the data
        logger.warning(
            "the checkpoint is from version 0.1 and does not tell which sentences its search was "
            "trained on: go on only with the same training data and --upsample-primary"
        )
        saved = {"options": state.get("division")}
        fraction = now.get("--arch-fraction", 0)
        options = f"--arch-fraction {fraction:g} and --seed {now.get('--seed')}"
        if "--arch-subset" in now:
            options = f"--arch-subset {now['--arch-subset']}"
        now = {"options": options}
        if saved["options"] is None:
            return
    for name in [*saved, *now]:
        if saved.get(name) != now.get(name):
            raise InputError(
                f"the search began with {name} = {saved.get(name)}, now it is {now.get(name)}: "
                "sentences would change sides between weights and alpha. Resume with the same data "
                "and options; --finetune-from-model begins a new search from these weights"
            )


def pair_keys(dataset: LanguagePairDataset) -> np.ndarray:
    """A 64-bit key for every sentence pair: equal for equal source and target.

    Different pairs of a corpus of n have the same key with a probability below `n² / 2^65`.
    """
    keys = np.empty(len(dataset.src), dtype=np.uint64)
    progress = tqdm(range(len(keys)), "comparing sentence pairs", delay=5, disable=None)
    for i in progress:
        source, target = dataset.src[i].numpy(), dataset.tgt[i].numpy()
        digest = blake2b(source.tobytes(), digest_size=8, salt=len(source).to_bytes(8, "little"))
        digest.update(target.tobytes())
        keys[i] = int.from_bytes(digest.digest(), "little")
    return keys
