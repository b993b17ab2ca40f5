"""Which training data belong to the weights and which to alpha (Section 3.2): sentence pairs, or
the documents of a text."""

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
from .binarised import prefetch_all
from .documents import DocumentDataset

logger = logging.getLogger(__name__)

Divisible = LanguagePairDataset | DocumentDataset
DEFAULT_ARCH_FRACTION = 2.0 / 4.5  # of 4.5M pairs (Section 3.2)


@dataclass(frozen=True)
class DataSplit:
    """Gives alpha a fraction of the training data, or another binarised split.

    Attributes:
        fraction: alpha's fraction of the sentence pairs or documents.
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
        """Create the split that ``--arch-fraction`` or ``--arch-subset``, ``--seed`` and
        ``--train-subset`` ask for; raise an :class:`InputError` if they are out of range."""
        if subset is not None and fraction is not None:
            raise InputError("--arch-subset and --arch-fraction exclude each other: give one")
        if fraction is not None and not 0 < fraction < 1:
            raise InputError(f"--arch-fraction is {fraction}, it must lie between 0 and 1")
        # fairseq reads train, train1, train2 ... as parts of train.
        if subset is not None and re.fullmatch(re.escape(train) + r"\d*", subset):
            raise InputError(
                f"--arch-subset is {subset!r}, the weights' own data: give a split of another name "
                "than theirs with a number, or use --arch-fraction to divide them"
            )
        return cls(DEFAULT_ARCH_FRACTION if fraction is None else fraction, seed, subset)

    def divide(self, train: Divisible, load_split: Callable[[str], Divisible]) -> BilevelDataset:
        """Divide the training data, or the shard of an epoch, between the levels; raise an
        :class:`InputError` if a level has no data or alpha's split does not exist."""
        text = isinstance(train, DocumentDataset)
        keys_of, units = (
            (DocumentDataset.keys, "documents") if text else (pair_keys, "sentence pairs")
        )
        all_keys = [keys_of(train)]
        members = None
        if self.subset is not None:
            datasets = {WEIGHTS: train, ALPHA: load_split(self.subset)}
            all_keys.append(keys_of(datasets[ALPHA]))
            shared = int(np.isin(all_keys[1], all_keys[0]).sum())
            if shared:
                logger.warning(
                    f"{shared} of {len(all_keys[1])} {units} of --arch-subset {self.subset} are "
                    "also in the training data that the weights are updated on"
                )
        elif text:
            drawn = self._members(all_keys[0], units)
            datasets = {level: train.windows_of(documents) for level, documents in drawn.items()}
        else:
            datasets = dict.fromkeys(LEVELS, train)
            members = self._members(all_keys[0], units)
        fingerprint = blake2b(b"".join(k.tobytes() for k in all_keys), digest_size=16).hexdigest()
        return BilevelDataset(datasets, members, fingerprint)

    def _members(self, keys: np.ndarray, units: str) -> dict[str, np.ndarray]:
        """Draw each level's indices; all copies of a pair or document go to the level of the first
        one. ``units`` is the word for them."""
        total = len(keys)
        count = round(self.fraction * total)
        with data_utils.numpy_seed(self.seed):
            order = np.random.permutation(total)
        of_alpha = np.zeros(total, dtype=bool)
        of_alpha[order[:count]] = True
        _, first, copy_of = np.unique(keys, return_index=True, return_inverse=True)
        of_alpha = of_alpha[first][copy_of]
        members = {ALPHA: np.flatnonzero(of_alpha), WEIGHTS: np.flatnonzero(~of_alpha)}
        if not all(map(len, members.values())):
            raise InputError(
                f"--arch-fraction {self.fraction:g} of {len(first)} different {units} gives "
                f"{len(members[ALPHA])} to alpha and {len(members[WEIGHTS])} to the weights: each "
                "needs at least one"
            )
        return members

    def options(self) -> dict[str, Any]:
        """The options that decide the level of each pair or document, in types for checkpoints."""
        fraction, seed = (self.fraction, self.seed) if self.subset is None else (None, None)
        return {"--arch-subset": self.subset, "--arch-fraction": fraction, "--seed": seed}


def check_same_split(now: Mapping[str, Any], state: Mapping[str, Any]) -> None:
    """Raise an :class:`InputError` if the options or fingerprints of this run differ from those in
    the iterator's saved state."""
    saved = state.get("data_split")
    if saved is None and state.get("division") is None:
        logger.warning("the checkpoint does not say which sentences its weights were trained on")
        return
    if saved is None:
        # Version 0.1 saved the options as text and nothing about the data.
        logger.warning(
            "the checkpoint is from version 0.1, which did not save a fingerprint of the training "
            "data: resume only with the same data and --upsample-primary. Sentence pairs that "
            "occur more than once may change levels"
        )
        saved = {"the split": state["division"]}
        options = f"--arch-subset {now['--arch-subset']}"
        if now["--arch-subset"] is None:
            options = f"--arch-fraction {now['--arch-fraction']:g} and --seed {now['--seed']}"
        now = {"the split": options}
    for name in now:
        if name in saved and saved[name] != now[name]:
            raise InputError(
                f"the search began with {name} = {saved[name]}, now it is {now[name]}: sentences "
                "would change sides between weights and alpha. Resume with the same data and "
                "options; --finetune-from-model begins a new search from these weights"
            )


def pair_keys(dataset: LanguagePairDataset) -> np.ndarray:
    """Compute a 64-bit key for every sentence pair: equal pairs have equal keys.

    Among n different pairs, the probability that any two have the same key is below `n² / 2^65`.
    """

    def key(i: int) -> int:
        source, target = dataset.src[i].numpy().tobytes(), dataset.tgt[i].numpy().tobytes()
        pair = len(source).to_bytes(8, "little") + source + target
        return int.from_bytes(blake2b(pair, digest_size=8).digest(), "little")

    for side in (dataset.src, dataset.tgt):
        prefetch_all(side)
    indices = tqdm(range(len(dataset.src)), "comparing sentence pairs", delay=5, disable=None)
    return np.fromiter(map(key, indices), dtype=np.uint64, count=len(dataset.src))
