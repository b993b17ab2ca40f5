"""The order of the batches of both levels."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain, count, cycle, islice, pairwise
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
    """Interleaves updates of the weights and of alpha, with fairseq's sharding and resume.

    fairseq gives batch i to worker ``i % workers``, and each worker takes ``update_freq`` batches
    for one update. The batches therefore come in groups of ``workers × update_freq``, one level a
    group: ``start`` groups of L_train, then one of L_val after every ``interval`` of L_train. An
    epoch is one pass over L_train; L_val is cycled across epochs and reshuffled on each pass. The
    last group of L_train is filled with the epoch's
    first batches, or dropped under ``--skip-remainder-batch``, so that no worker lacks a batch.

    The order depends only on the seed, the epoch and the batches: a resumed search sees the batches
    that it would have seen.

    Args:
        dataset: the data of both levels.
        batches: each level's batches as indices of the dataset; at least one each.
        update_freq: entries of ``--update-freq``, one per epoch; the last holds for the rest.
        split: the options and fingerprints that identify the data of each level. Fingerprints that
            a checkpoint has and the split lacks are added at resume.
        start: updates of the weights before alpha's first.
        interval: updates of the weights to one of alpha; 0 leaves L_val to :meth:`alpha_sample`.
        skip_remainder_batch: drop the last, incomplete group.
        earlier: groups of L_train in each earlier epoch, where its data may have been another
            shard; otherwise this epoch's data tell.
        arguments: as in fairseq's iterator.
    """

    def __init__(
        self,
        dataset: BilevelDataset,
        batches: Mapping[str, Sequence[Batch]],
        update_freq: Sequence[int],
        split: dict[str, Any],
        start: int = 0,
        interval: int = 1,
        skip_remainder_batch: bool = False,
        earlier: Sequence[int] = (),
        **arguments: Any,
    ):
        super().__init__(
            dataset=dataset,
            collate_fn=dataset.collater,
            batch_sampler=list(batches[WEIGHTS]),
            skip_remainder_batch=False,  # the groups are complete
            **arguments,
        )
        self.batches = {level: tuple(batches[level]) for level in LEVELS}
        self.update_freq = tuple(update_freq)
        self.split = split
        self.start, self.interval = start, interval
        self.drop_incomplete = skip_remainder_batch
        self._earlier = tuple(earlier)
        self._pass: tuple[int, list[Batch]] | None = None  # of L_val, for alpha_sample
        for epoch, entry in enumerate(self.update_freq, 1):
            if entry < 1:
                raise InputError(f"--update-freq is {entry}, it must be at least 1")
            if self._groups_of_data(epoch) == 0:
                raise InputError(
                    f"the {len(self.batches[WEIGHTS])} batches of the weights' data do not fill "
                    f"one update of {self._group_size(epoch)} (workers × --update-freq), and "
                    "--skip-remainder-batch drops them: lower --max-tokens or leave it out"
                )

    def _group_size(self, epoch: int) -> int:
        entry = min(epoch, len(self.update_freq)) - 1
        return self.num_shards * self.update_freq[entry]

    def groups_before(self, epoch: int) -> list[int]:
        """Number of groups of L_train in each epoch before this one."""
        return [self._groups(e) for e in range(1, epoch)]

    def _groups(self, epoch: int) -> int:
        """Number of groups of L_train in an epoch."""
        known = epoch <= len(self._earlier)
        return self._earlier[epoch - 1] if known else self._groups_of_data(epoch)

    def _groups_of_data(self, epoch: int) -> int:
        """The same for an epoch of the present data."""
        complete, rest = divmod(len(self.batches[WEIGHTS]), self._group_size(epoch))
        return complete + (rest > 0 and not self.drop_incomplete)

    def _alpha_groups(self, weights_groups: int) -> int:
        """Number of groups of L_val among the search's first groups of L_train."""
        return max(0, weights_groups - self.start) // self.interval if self.interval else 0

    def _alpha_places(self, epoch: int) -> list[bool]:
        """For each of the epoch's groups of L_train, whether one of L_val follows."""
        before = sum(self.groups_before(epoch))
        counts = [self._alpha_groups(before + j) for j in range(self._groups(epoch) + 1)]
        return [after > now for now, after in pairwise(counts)]

    def __len__(self) -> int:
        groups = self._groups(self.epoch) + sum(self._alpha_places(self.epoch))
        return groups * self._group_size(self.epoch) // self.num_shards

    def _get_iterator_for_epoch(self, epoch: int, shuffle: bool, **arguments: Any):
        """As in fairseq, but a reused loader takes each epoch's ``shuffle``, not the first's."""
        if self.dataloader is not None:
            self.dataloader.batch_sampler.shuffle = shuffle
        return super()._get_iterator_for_epoch(epoch, shuffle, **arguments)

    def ordered_batches(self, epoch: int, fix_batches_to_gpus: bool, shuffle: bool) -> list[Batch]:
        """The epoch's batches of this worker."""
        size, groups = self._group_size(epoch), self._groups(epoch)
        weights = self._shuffled(WEIGHTS, shuffle, epoch)
        weights = list(islice(cycle(weights), groups * size))
        # Passes over L_val go on across epochs.
        used = (sum(self._alpha_places(e)) * self._group_size(e) for e in range(1, epoch))
        alpha = self._alpha_batches(sum(used))
        order: list[Batch] = []
        for i, followed in enumerate(self._alpha_places(epoch)):
            order += weights[i * size : (i + 1) * size]
            order += islice(alpha, size if followed else 0)
        return order[self.shard_id :: self.num_shards]

    def _alpha_batches(self, start: int) -> Iterator[Batch]:
        """The batches of L_val, for ever, from the one at position ``start``."""
        begun, begin = divmod(start, len(self.batches[ALPHA]))
        # A pass needs one order, so that --curriculum, which turns shuffling off for the first
        # epochs, applies to the weights only.
        passes = (self._shuffled(ALPHA, not self.disable_shuffling, n) for n in count(begun))
        return islice(chain.from_iterable(passes), begin, None)

    def alpha_sample(self, position: int) -> Mapping[str, Any]:
        """Return this worker's batch of L_val when each worker has had ``position`` of them."""
        begun, index = divmod(position * self.num_shards + self.shard_id, len(self.batches[ALPHA]))
        if self._pass is None or self._pass[0] != begun:
            self._pass = begun, self._shuffled(ALPHA, not self.disable_shuffling, begun)
        return self.collate_fn([self.dataset[i] for i in self._pass[1][index]])

    def _shuffled(self, level: str, shuffle: bool, pass_number: int) -> list[Batch]:
        """The level's batches in the order of one pass."""
        batches = list(self.batches[level])
        if not shuffle:
            return batches
        unit = self.num_shards if self.grouped_shuffling else 1
        units = [batches[i : i + unit] for i in range(0, len(batches), unit)]
        # A short last unit stays last: all others then begin with the first worker.
        tail = units.pop() if len(units[-1]) < unit else []
        with data_utils.numpy_seed(self.seed, LEVELS.index(level), pass_number):
            order = np.random.permutation(len(units))
        return [batch for i in order for batch in units[i]] + tail

    def state_dict(self) -> dict[str, Any]:
        """fairseq's state, the split, and what the position within an epoch depends on."""
        state = super().state_dict()
        position = {"counting": self._counting(), "earlier": self.groups_before(state["epoch"])}
        return state | {"data_split": dict(self.split), **position}

    def _counting(self) -> dict[str, int]:
        """The sizes on which a position within an epoch depends."""
        counts = {f"batches of {level}": len(self.batches[level]) for level in LEVELS}
        schedule = {"--arch-start": self.start, "--arch-interval": self.interval}
        return {"workers × --update-freq": self._group_size(self.epoch), **counts, **schedule}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Continue from a saved position; raise an :class:`InputError` if the data, their split, or
        within an epoch the batches or groups differ."""
        self.check_data(state_dict)
        self.epoch = state_dict["epoch"]
        saved, now = state_dict.get("counting"), self._counting()
        if saved is not None:  # versions before 0.2 alternated
            saved = {"--arch-start": 0, "--arch-interval": 1, **saved}
        if state_dict.get("iterations_in_epoch", 0) > 0 and saved not in (None, now):
            name = next(name for name in now if now[name] != saved.get(name))
            options = "--max-tokens, --batch-size and --required-batch-size-multiple"
            cause = f" ({options} decide)" if name.startswith("batches") else ""
            raise InputError(
                f"the checkpoint was saved within an epoch with {name} = {saved.get(name)}, now it "
                f"is {now[name]}{cause}: resume with the same, or give --reset-dataloader to begin "
                "the epoch again"
            )
        self._earlier = tuple(state_dict.get("earlier", self._earlier))
        super().load_state_dict(state_dict)

    def check_data(self, state_dict: Mapping[str, Any]) -> None:
        """Raise an :class:`InputError` if a resumed search has other data than it began with; also
        called under ``--reset-dataloader``."""
        check_same_split(self.split, state_dict)
        self.split.update(state_dict.get("data_split", {}) | self.split)
