"""A training goes on with another number of workers, or says why it cannot."""

from collections import Counter
from itertools import islice, product

import pytest
from fairseq.data.iterators import EpochBatchIterator
from helpers.running import (
    SAMPLING,
    SEARCH,
    checkpoint,
    start_workers,
    train,
    train_workers,
    training,
)
from test_bad_input import check_line
from test_iterator import iterator, pairs, updates

from fairseq_dartsformer.errors import InputError

WORKERS = (1, 2, 3, 4)


def fairseqs(workers: int, shard: int, **options) -> EpochBatchIterator:
    """Over 19 batches; batch i has sentence i alone."""
    dataset = pairs(19)
    batches = [[i] for i in range(19)]
    return EpochBatchIterator(
        dataset, dataset.collater, batches, num_shards=workers, shard_id=shard, **options
    )


def left_of_epoch(state: dict | None, workers: int, rounds: int | None = None) -> list[int]:
    """The sentences that all workers see until the epoch's end, or in so many rounds."""
    seen = []
    for shard in range(workers):
        run = fairseqs(workers, shard)
        if state is not None:
            run.load_state_dict(state)
        batches = islice(run.next_epoch_itr(), rounds)
        seen += [batch["id"].item() for batch in batches if batch]  # none for a dummy
    return seen


@pytest.mark.parametrize(("before", "after"), product(WORKERS, WORKERS))
def test_fairseqs_epoch_is_seen_whole(before, after):
    """Nothing is left out, and no more than a round is seen twice."""
    for rounds in range(1, -(-19 // before)):
        run = fairseqs(before, 0)
        for _ in islice(run.next_epoch_itr(), rounds):
            pass
        first = left_of_epoch(None, before, rounds)
        seen = Counter(first + left_of_epoch(run.state_dict(), after))
        assert seen.keys() == set(range(19))
        assert sum(seen.values()) - 19 < after and max(seen.values()) <= 2


def test_place_is_rounded_only_where_workers_change():
    run = fairseqs(2, 0)
    next(run.next_epoch_itr())
    for saved in (run.state_dict(), {**run.state_dict(), "workers": None}):
        saved = {name: value for name, value in saved.items() if value is not None}
        same = fairseqs(2, 0)
        same.load_state_dict(saved)
        assert same.iterations_in_epoch == 1


@pytest.mark.parametrize(
    ("before", "after"), [(b, a) for b, a in product(WORKERS, WORKERS) if 12 % b == 12 % a == 0]
)
@pytest.mark.parametrize("taken", [1, 2, 5])
def test_groups_of_one_size_go_on_the_same(before, after, taken):
    """With as many batches an update, dealt to other workers."""

    def group(runs):
        """The next update of all workers."""
        of_workers = [next(run) for run in runs]
        return of_workers[0][0], sorted(batch for _, own in of_workers for batch in own)

    def workers(count):
        options = {"weights": 40, "alpha": 30, "workers": count, "update_freq": (12 // count,)}
        return [iterator(shard=shard, **options) for shard in range(count)]

    runs = [updates(run) for run in workers(before)]
    expected = [group(runs) for _ in range(taken + 9)]
    stopped = workers(before)
    for run in stopped:
        for _ in islice(updates(run), taken):
            pass
    others = workers(after)
    for run in others:
        run.load_state_dict(stopped[0].state_dict())
    going_on = [updates(run) for run in others]
    assert [group(going_on) for _ in range(9)] == expected[taken:]


@pytest.mark.parametrize("make", [fairseqs, iterator])
def test_grouped_shuffling_needs_as_many_workers(make):
    run = make(workers=2, shard=0, grouped_shuffling=True)
    next(run.next_epoch_itr())
    options = {} if make is fairseqs else {"update_freq": (2,)}
    other = make(workers=1, shard=0, grouped_shuffling=True, **options)
    with pytest.raises(InputError, match=r"epoch of 2 workers, now there are 1, .*grouped-shuf"):
        other.load_state_dict({**run.state_dict(), "iterations_in_epoch": 2})
    other.load_state_dict({**run.state_dict(), "epoch": 2, "iterations_in_epoch": 0})


def search(data, folder, workers: int, *options: str):
    """Search with so many workers; its last state."""
    options = ("--disable-validation", *options)
    if workers == 1:
        train(SEARCH, data, folder, *options)
    else:
        train_workers(SEARCH, data, folder, *options, workers=workers)
    return checkpoint(folder)


@pytest.mark.parametrize(("before", "after"), [(1, 2), (2, 1)])
def test_search(data, tmp_path, before, after):
    """Refused within an epoch, unless the updates are as large; works between epochs."""
    # 10 batches of the weights: 20 updates an epoch of one worker, 10 of two
    search(data, tmp_path, before, "--max-update", "4")
    command = training(SEARCH, data, tmp_path, "--max-update", "8")
    for run in start_workers(command, tmp_path, after):
        assert run.wait().status == 1
        reason = f"workers × --update-freq = {before}, now it is {after}"
        check_line(run.stderr.splitlines()[-1], reason)
    state = search(data, tmp_path, before, "--max-update", "20" if before == 1 else "10")
    assert state["extra_state"]["train_iterator"]["iterations_in_epoch"] == 0
    state = search(data, tmp_path, after, "--max-epoch", "2")
    expected = 20 + 10
    assert state["optimizer_history"][-1]["num_updates"] == expected
    assert state["extra_state"]["train_iterator"]["epoch"] == 3


@pytest.mark.parametrize(("before", "after"), [(1, 2), (2, 1)])
def test_search_with_updates_as_large(data, tmp_path, before, after):
    options = {1: ["--update-freq", "2"], 2: ["--update-freq", "1"]}
    exact = "--dropout 0 --attention-dropout 0 --adam-eps 1e-6 --max-update".split()
    whole = search(data, tmp_path / "whole", before, *options[before], *exact, "14")
    search(data, tmp_path, before, *options[before], *exact, "6")
    state = search(data, tmp_path, after, *options[after], *exact, "14")
    for name, value in whole["model"].items():
        if value.is_floating_point():
            assert (state["model"][name] - value).abs().max() < 1e-4, name


def test_sampling_within_an_epoch(data, tmp_path):
    """It has fairseq's own epochs: 19 batches, of which two workers see 10 and 10."""
    options = "--disable-validation --max-update".split()
    train_workers(SAMPLING, data, tmp_path, *options, "3")
    train(SAMPLING, data, tmp_path, *options, "4")
    state = checkpoint(tmp_path)["extra_state"]["train_iterator"]
    assert (state["iterations_in_epoch"], state["workers"]) == (3 * 2 + 1, 1)
