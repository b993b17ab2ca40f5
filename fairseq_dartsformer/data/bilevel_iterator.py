"""The order of the batches of both levels."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from fairseq.data import data_utils
from fairseq.data.iterators import EpochBatchIterator

from ..errors import InputError
from ..search_space.levels import ALPHA, LEVELS, WEIGHTS
from .bilevel_dataset import BilevelDataset
from .data_split import check_same_split

Batch = Sequence[int]


class BilevelBatchIterator(EpochBatchIterator):
    """Updates of the weights and of alpha in turn, over fairseq's own sharding and resuming.

    fairseq deals batch i to worker ``i % workers`` and puts ``update_freq`` batches of a worker
    into one update. So the batches come in groups of ``workers × update_freq``, each of one level:
    a group of L_train, a group of L_val, and so on. An epoch is one pass over L_train; L_val goes
    round and round, across epochs, in a new order each time. The last group of L_train is filled
    up from the epoch's first batches, or dropped under ``--skip-remainder-batch``: no worker ever
    lacks a batch.

    The order depends on the seed, the epoch and the batches alone, so that a search resumed in the
    middle of an epoch sees what it would have seen.

    Args:
        dataset: both levels' data.
        batches: each level's batches of the dataset's indices, none empty.
        update_freq: the entries of ``--update-freq``, one an epoch, the last one ever after.
        skip_remainder_batch: drop the last, incomplete group.
        arguments: as fairseq's iterator takes them.
    """

    def __init__(
        self,
        dataset: BilevelDataset,
        batches: Mapping[str, Sequence[Batch]],
        update_freq: Sequence[int],
        skip_remainder_batch: bool = False,
        **arguments: Any,
    ):
        super().__init__(
            dataset=dataset,
            collate_fn=dataset.collater,
            batch_sampler=list(batches[WEIGHTS]),
            # Groups are whole already.
            skip_remainder_batch=False,
            **arguments,
        )
        self.batches = {level: tuple(batches[level]) for level in LEVELS}
        self.update_freq = tuple(update_freq)
        self.drop_incomplete = skip_remainder_batch
        self._check_update_freq()

    def _check_update_freq(self) -> None:
        """No epoch may be without an update."""
        for epoch, entry in enumerate(self.update_freq, 1):
            if entry < 1:
                raise InputError(
                    f"--update-freq is {entry} in epoch {epoch}, it must be at least 1"
                )
            if self._groups(epoch) == 0:
                raise InputError(
                    f"the {len(self.batches[WEIGHTS])} batches of the weights' data do not fill "
                    f"one update of {self._group_size(epoch)} (workers × --update-freq), and "
                    "--skip-remainder-batch drops them: lower --max-tokens or leave it out"
                )

    def _group_size(self, epoch: int) -> int:
        entry = min(epoch, len(self.update_freq)) - 1
        return self.num_shards * self.update_freq[entry]

    def _groups(self, epoch: int) -> int:
        """Updates of each level in an epoch."""
        whole, rest = divmod(len(self.batches[WEIGHTS]), self._group_size(epoch))
        return whole + (rest > 0 and not self.drop_incomplete)

    def __len__(self) -> int:
        return 2 * self._groups(self.epoch) * self._group_size(self.epoch) // self.num_shards

    def _get_iterator_for_epoch(self, epoch: int, shuffle: bool, **arguments: Any):
        """fairseq's, in which a reused loader would stick to the first epoch's ``shuffle``."""
        if self.dataloader is not None:
            self.dataloader.batch_sampler.shuffle = shuffle
        return super()._get_iterator_for_epoch(epoch, shuffle, **arguments)

    def ordered_batches(self, epoch: int, fix_batches_to_gpus: bool, shuffle: bool) -> list[Batch]:
        """The epoch's batches of this worker."""
        size, groups = self._group_size(epoch), self._groups(epoch)
        weights = self._shuffled(WEIGHTS, shuffle, epoch)
        weights = list(itertools.islice(itertools.cycle(weights), groups * size))
        start = sum(self._groups(e) * self._group_size(e) for e in range(1, epoch))
        # Whole passes have one order each, though an epoch may begin or end within them; so
        # --curriculum, which leaves the first epochs' batches in order, is for the weights alone.
        alpha = self._alpha_batches(start, groups * size, not self.disable_shuffling)
        order: list[Batch] = []
        for i in range(0, groups * size, size):
            order += weights[i : i + size]
            order += alpha[i : i + size]
        mine = order[self.shard_id :: self.num_shards]
        if self._supports_prefetch:
            self.dataset.prefetch([index for batch in mine for index in batch])
        return mine

    def _alpha_batches(self, start: int, count: int, shuffle: bool) -> list[Batch]:
        """``count`` batches of L_val's endless sequence from its ``start``-th on."""
        length = len(self.batches[ALPHA])
        first, last = start // length, (start + count - 1) // length
        passes = (self._shuffled(ALPHA, shuffle, n) for n in range(first, last + 1))
        begin = start - first * length
        return list(itertools.chain.from_iterable(passes))[begin : begin + count]

    def _shuffled(self, level: str, shuffle: bool, pass_number: int) -> list[Batch]:
        """The level's batches in the order of one pass."""
        batches = list(self.batches[level])
        if not shuffle:
            return batches
        unit = self.num_shards if self.grouped_shuffling else 1
        units = [batches[i : i + unit] for i in range(0, len(batches), unit)]
        # A short last unit stays last, so that within a pass units begin with the first worker.
        tail = units.pop() if len(units[-1]) < unit else []
        with data_utils.numpy_seed(self.seed, LEVELS.index(level), pass_number):
            order = np.random.permutation(len(units))
        return [batch for i in order for batch in units[i]] + tail

    def state_dict(self) -> dict[str, Any]:
        """fairseq's state, what its position depends on, and what identifies the data."""
        return {
            **super().state_dict(),
            "data_split": self.dataset.split,
            "counting": self._counting(),
        }

    def _counting(self) -> dict[str, int]:
        """What a position within the epoch is counted in."""
        counts = {f"batches of {level}": len(self.batches[level]) for level in LEVELS}
        return {"workers × --update-freq": self._group_size(self.epoch), **counts}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Go on where the state was taken.

        Raises:
            InputError: the search began with other data or another division of them, or the state
                was taken in the middle of an epoch with other batches or groups.
        """
        self.check_data(state_dict)
        self.epoch = state_dict["epoch"]
        saved, now = state_dict.get("counting"), self._counting()
        if state_dict.get("iterations_in_epoch", 0) > 0 and saved not in (None, now):
            name = next(name for name in now if now[name] != saved.get(name))
            raise InputError(
                f"the checkpoint was saved within an epoch with {name} = {saved.get(name)}, now it "
                f"is {now[name]}: resume with the same, or give --reset-dataloader to begin an "
                "epoch anew"
            )
        super().load_state_dict(state_dict)

    def check_data(self, state_dict: Mapping[str, Any]) -> None:
        """Check that a resumed search has the data that it began with, also where its place in
        them is not restored (``--reset-dataloader``).

        Raises:
            InputError: it does not.
        """
        check_same_split(self.dataset.split, state_dict)
