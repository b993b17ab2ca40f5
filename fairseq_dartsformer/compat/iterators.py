"""The place in the data that a training is at, and goes on from."""

from __future__ import annotations

from collections.abc import Mapping
from functools import wraps
from typing import Any

from fairseq.data.iterators import EpochBatchIterator
from fairseq.trainer import Trainer

from ..errors import InputError


def apply() -> None:
    """Put these workarounds in place."""
    EpochBatchIterator.state_dict = _with_workers(EpochBatchIterator.state_dict)
    EpochBatchIterator.load_state_dict = _count_for_workers(EpochBatchIterator.load_state_dict)
    Trainer.get_valid_iterator = _at_a_place_of_its_own(Trainer.get_valid_iterator)


def _with_workers(state_dict):
    """Save what a place within an epoch is counted in; :func:`_count_for_workers` reads it."""

    @wraps(state_dict)
    def with_workers(self: EpochBatchIterator) -> dict[str, Any]:
        return {**state_dict(self), "workers": self.num_shards}

    return with_workers


def _count_for_workers(load_state_dict):
    """Go on in the middle of an epoch with another number of workers.

    Symptom: data are skipped, or seen twice. Cause: the place is saved in batches of one worker,
    and its epoch's order is dealt anew. It is rounded down to whole rounds of the workers there are
    now, so that no batch is left out. Goes when fairseq saves a place that means the same to all.
    """

    @wraps(load_state_dict)
    def count_for_workers(self: EpochBatchIterator, state: Mapping[str, Any]) -> None:
        place, workers = state.get("iterations_in_epoch", 0), state.get("workers", self.num_shards)
        if place > 0 and workers != self.num_shards:
            if self.grouped_shuffling:
                raise InputError(
                    f"the checkpoint was saved within an epoch of {workers} workers, now there are "
                    f"{self.num_shards}, which --grouped-shuffling gives another order: resume "
                    "with as many, or give --reset-dataloader to begin an epoch anew"
                )
            state = {**state, "iterations_in_epoch": place * workers // self.num_shards}
        load_state_dict(self, state)

    return count_for_workers


def _at_a_place_of_its_own(get_valid_iterator):
    """Validate the training split while the training goes through it.

    Symptom: with the training split among those of ``--valid-subset``, each validation ends the
    epoch. Cause: fairseq keeps one iterator for each split, with one place. Goes when a validation
    has its own.
    """

    @wraps(get_valid_iterator)
    def get_own(self: Trainer, subset: str, disable_iterator_cache: bool = False):
        own = disable_iterator_cache or subset == self.cfg.dataset.train_subset
        return get_valid_iterator(self, subset, own)

    return get_own
