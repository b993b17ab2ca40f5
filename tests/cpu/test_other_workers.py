"""A training resumes with another number of workers, or says why it cannot."""

from collections import Counter
from itertools import islice, product

import pytest
import torch
from fairseq.data import FairseqDataset
from fairseq.data.iterators import EpochBatchIterator
from helpers.fairseq_commands import (
    SAMPLING,
    SEARCH,
    check_line,
    checkpoint,
    start_workers,
    train,
    train_workers,
    training,
)

from fairseq_dartsformer.errors import InputError

WORKERS = (1, 2, 3, 4)
BATCHES = 19


class Numbers(FairseqDataset):
    """Sentence i is the number i."""

    def __getitem__(self, index):
        return index

    def __len__(self):
        return BATCHES

    def collater(self, samples):
        return {"id": torch.tensor(samples)} if samples else {}


def iterator(workers: int, shard: int, **options) -> EpochBatchIterator:
    """fairseq's iterator; batch i has only sentence i."""
    dataset, batches = Numbers(), [[i] for i in range(BATCHES)]
    return EpochBatchIterator(
        dataset, dataset.collater, batches, num_shards=workers, shard_id=shard, **options
    )


def seen(state: dict | None, workers: int, rounds: int | None = None) -> list[int]:
    """The sentences that all workers see to the end of the epoch, or in so many rounds."""
    sentences = []
    for shard in range(workers):
        run = iterator(workers, shard)
        if state is not None:
            run.load_state_dict(state)
        batches = islice(run.next_epoch_itr(), rounds)
        sentences += [batch["id"].item() for batch in batches if batch]  # a dummy batch is empty
    return sentences


@pytest.mark.parametrize(("before", "after"), product(WORKERS, WORKERS))
def test_no_sentence_is_skipped_and_at_most_a_round_is_repeated(before, after):
    for rounds in range(1, -(-BATCHES // before)):
        run = iterator(before, 0)
        for _ in islice(run.next_epoch_itr(), rounds):
            pass
        counts = Counter(seen(None, before, rounds) + seen(run.state_dict(), after))
        assert counts.keys() == set(range(BATCHES))
        assert sum(counts.values()) - BATCHES < after and max(counts.values()) <= 2


def test_place_is_kept_where_the_number_of_workers_is_the_same_or_unknown():
    run = iterator(2, 0)
    next(run.next_epoch_itr())
    state = run.state_dict()
    for saved in (state, {name: value for name, value in state.items() if name != "workers"}):
        same = iterator(2, 0)
        same.load_state_dict(saved)
        assert same.iterations_in_epoch == 1


def test_grouped_shuffling_needs_as_many_workers():
    run = iterator(workers=2, shard=0, grouped_shuffling=True)
    next(run.next_epoch_itr())
    other = iterator(workers=1, shard=0, grouped_shuffling=True)
    with pytest.raises(InputError, match=r"epoch of 2 workers, now there are 1, .*grouped-shuf"):
        other.load_state_dict(run.state_dict())
    other.load_state_dict({**run.state_dict(), "epoch": 2, "iterations_in_epoch": 0})


def search(data, folder, workers: int, *options: str):
    """Search with so many workers; return the last checkpoint."""
    options = ("--disable-validation", *options)
    if workers == 1:
        train(SEARCH, data, folder, *options)
    else:
        train_workers(SEARCH, data, folder, *options, workers=workers)
    return checkpoint(folder)


def test_search_refuses_within_an_epoch_and_resumes_between_epochs(data, tmp_path):
    # 10 batches of the weights: 20 updates in an epoch of one worker, 10 of two
    search(data, tmp_path, 1, "--max-update", "4")
    command = training(SEARCH, data, tmp_path, "--max-update", "8")
    for run in start_workers(command, tmp_path, 2):
        check_line(run.wait(), "workers × --update-freq = 1, now it is 2")
    search(data, tmp_path, 1, "--max-update", "20")
    state = search(data, tmp_path, 2, "--max-epoch", "2")
    assert state["optimizer_history"][-1]["num_updates"] == 20 + 10
    assert state["extra_state"]["train_iterator"]["epoch"] == 3


@pytest.mark.parametrize(("before", "after"), [(1, 2), (2, 1)])
def test_search_resumes_with_updates_of_the_same_size(data, tmp_path, before, after):
    options = {1: ["--update-freq", "2"], 2: ["--update-freq", "1"]}
    exact = "--dropout 0 --attention-dropout 0 --adam-eps 1e-6 --max-update".split()
    complete = search(data, tmp_path / "complete", before, *options[before], *exact, "14")
    search(data, tmp_path, before, *options[before], *exact, "6")
    state = search(data, tmp_path, after, *options[after], *exact, "14")
    for name, value in complete["model"].items():
        if value.is_floating_point():
            assert (state["model"][name] - value).abs().max() < 1e-4, name


def test_sampling_resumes_within_an_epoch(data, tmp_path):
    """Its epochs are fairseq's: 19 batches, of which two workers see 10 each."""
    options = "--disable-validation --max-update".split()
    train_workers(SAMPLING, data, tmp_path, *options, "3")
    train(SAMPLING, data, tmp_path, *options, "4")
    state = checkpoint(tmp_path)["extra_state"]["train_iterator"]
    assert (state["iterations_in_epoch"], state["workers"]) == (3 * 2 + 1, 1)
