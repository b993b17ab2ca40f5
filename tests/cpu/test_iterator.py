"""The order of the batches of both levels, over workers, accumulation and epochs."""

from collections import Counter
from itertools import groupby, islice, takewhile

import numpy as np
import pytest
import torch
from fairseq.data import Dictionary, LanguagePairDataset, ListDataset
from fairseq.data.iterators import GroupedIterator

from fairseq_dartsformer.data import BilevelBatchIterator, BilevelDataset
from fairseq_dartsformer.errors import InputError
from fairseq_dartsformer.search_space.levels import ALPHA, LEVELS, WEIGHTS

EPOCHS = 4
SENTENCES = {WEIGHTS: 40, ALPHA: 30}


def pairs(sentences: int) -> LanguagePairDataset:
    """Sentence i is one word long."""
    words = ListDataset([torch.tensor([4, 2])] * sentences, np.full(sentences, 2))
    return LanguagePairDataset(words, words.sizes, Dictionary(), words, words.sizes, Dictionary())


DATASET = BilevelDataset(
    {level: pairs(count) for level, count in SENTENCES.items()},
    {level: np.arange(count) for level, count in SENTENCES.items()},
)


def iterator(
    weights: int = 7,
    alpha: int = 5,
    workers: int = 1,
    shard: int = 0,
    update_freq=(1,),
    split=None,
    **options,
) -> BilevelBatchIterator:
    """Of the given number of batches; batch i of a level has only the level's sentence i."""
    offset = SENTENCES[WEIGHTS]
    batches = {WEIGHTS: [[i] for i in range(weights)], ALPHA: [[offset + i] for i in range(alpha)]}
    arguments = {"num_shards": workers, "shard_id": shard, "reuse_dataloader": True, **options}
    return BilevelBatchIterator(DATASET, batches, update_freq, split or {}, **arguments)


def updates(iterator: BilevelBatchIterator):
    """A worker's updates, without end, as the trainer takes them: (epoch, its micro-batches)."""
    while True:
        epoch_iterator = iterator.next_epoch_itr()
        length = len(epoch_iterator)
        entry = min(iterator.epoch, len(iterator.update_freq)) - 1
        grouped = GroupedIterator(
            epoch_iterator,
            iterator.update_freq[entry],
            skip_remainder_batch=iterator.drop_incomplete,
        )
        for group in grouped:
            yield iterator.epoch, [(batch["level"], batch["id"].item()) for batch in group]
        assert epoch_iterator.n == length == len(iterator)


def epochs_of(iterator: BilevelBatchIterator) -> list[list[list[tuple[str, int]]]]:
    """The first epochs' updates."""
    first = takewhile(lambda found: found[0] <= EPOCHS, updates(iterator))
    return [[update for _, update in epoch] for _, epoch in groupby(first, lambda found: found[0])]


GRID = [
    {"weights": w, "alpha": a, "workers": n, "update_freq": f, **options}
    for w, a in ((7, 5), (12, 4), (1, 3), (3, 20))
    for n in (1, 2, 3)
    for f in ((1,), (2,), (1, 3, 2))
    for options in ({}, {"grouped_shuffling": True}, {"skip_remainder_batch": True})
    if w >= 9 or not options.get("skip_remainder_batch")
]


@pytest.mark.parametrize("case", GRID, ids=str)
def test_order(case):
    frequencies = case["update_freq"]
    shards = [epochs_of(iterator(shard=s, **case)) for s in range(case["workers"])]
    seen_alpha, orders = Counter(), {level: [] for level in LEVELS}
    for epoch in range(EPOCHS):
        frequency = frequencies[min(epoch, len(frequencies) - 1)]
        size = frequency * case["workers"]
        of_workers = [shard[epoch] for shard in shards]
        assert len({len(updates) for updates in of_workers}) == 1
        weights, alpha = [], []
        for i, update in enumerate(zip(*of_workers, strict=True)):
            batches = [batch for step in zip(*update, strict=True) for batch in step]
            assert len(batches) == size
            assert {level for level, _ in batches} == {LEVELS[i % 2]}
            (alpha if i % 2 else weights).extend(number for _, number in batches)
        assert len(weights) == len(alpha) > 0

        # Weights: each batch once, then the first ones again to fill the last group.
        count = case["weights"]
        if case.get("skip_remainder_batch"):
            assert len(weights) == count // size * size == len(set(weights))
        else:
            assert sorted(weights[:count]) == list(range(count))
            assert len(weights) == -(-count // size) * size
            assert weights == [weights[i % count] for i in range(len(weights))]

        # Alpha: no batch an (n + 1)th time before all the others have been seen n times.
        for number in alpha:
            seen_alpha[number] += 1
            counts = [seen_alpha[i] for i in range(case["alpha"])]
            assert max(counts) - min(counts) <= 1
        orders[WEIGHTS].append(tuple(weights[:count]))
        orders[ALPHA] += alpha
    if case["weights"] > 9 and not case.get("grouped_shuffling"):
        assert len(set(orders[WEIGHTS])) == EPOCHS
    length = case["alpha"]
    passes = [tuple(orders[ALPHA][i : i + length]) for i in range(0, len(orders[ALPHA]), length)]
    if length * 2 < len(orders[ALPHA]) and not case.get("grouped_shuffling"):
        assert len(set(passes)) > 1


@pytest.mark.parametrize("case", GRID, ids=str)
def test_resumed_anywhere_goes_on_the_same(case):
    shard = case["workers"] - 1
    run = iterator(shard=shard, **case)
    rest = list(islice(updates(run), 60))
    run = iterator(shard=shard, **case)
    for taken, _ in enumerate(islice(updates(run), 40), 1):
        if taken % 5:
            continue
        state = run.state_dict()
        resumed = iterator(shard=shard, epoch=state["epoch"], **case)
        resumed.load_state_dict(state)
        assert list(islice(updates(resumed), 15)) == rest[taken : taken + 15]


def test_order_depends_on_the_seed():
    first, again, other = (epochs_of(iterator(20, 20, seed=seed)) for seed in (1, 1, 2))
    assert first == again != other


def test_unshuffled_epochs_keep_the_balance_of_alpha():
    """``--curriculum 2``: the first epochs' batches of the weights come in order."""
    run, seen = iterator(weights=7, alpha=5), []
    for epoch in (1, 2, 3, 4):
        batches = list(run.next_epoch_itr(shuffle=epoch > 2))
        weights = [batch["id"].item() for batch in batches if batch["level"] == WEIGHTS]
        assert (weights == list(range(7))) == (epoch <= 2)
        seen += [batch["id"].item() for batch in batches if batch["level"] == ALPHA]
    for end in range(len(seen)):
        counts = [seen[:end].count(i) for i in range(5)]
        assert max(counts) - min(counts) <= 1


@pytest.mark.parametrize("resumed", [False, True])
def test_epochs_of_different_sizes_count_together(resumed):
    """Alpha waits for ``start`` updates of the weights, and comes after each ``interval``."""
    sizes, start, interval, found, run = [10, 3, 7, 3], 11, 3, [], None
    for epoch, weights in enumerate(sizes, 1):
        earlier = [] if run is None or resumed else run.groups_before(epoch)
        options = {"epoch": epoch, "start": start, "interval": interval, "earlier": earlier}
        new = iterator(weights=weights, **options)
        if resumed and run is not None:
            new.load_state_dict(run.state_dict())
        run = new
        found += [batch["level"] for batch in run.next_epoch_itr()]
    expected = []
    for number in range(1, sum(sizes) + 1):
        past = number - start
        expected += [WEIGHTS] + [ALPHA] * (past > 0 and past % interval == 0)
    assert found == expected


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"workers": 1}, "--update-freq = 2, now it is 1: .*--reset-dataloader"),
        ({"update_freq": (2,)}, "--update-freq = 2, now it is 4: "),
        ({"weights": 8}, r"batches of weights = 7, now it is 8 \(--max-tokens, "),
        ({"alpha": 9}, r"batches of alpha = 5, now it is 9 \(--max-tokens, "),
    ],
)
def test_resumes_among_other_groups_only_between_epochs(options, message):
    run = iterator(workers=2)
    next(updates(run))
    other = iterator(**{"workers": 2, **options})
    with pytest.raises(InputError, match=message):
        other.load_state_dict(run.state_dict())
    other.load_state_dict({**run.state_dict(), "epoch": 2, "iterations_in_epoch": 0})
    assert next(updates(other))[0] == 2


@pytest.mark.parametrize(
    ("options", "size"), [({"workers": 4, "update_freq": (2,)}, 8), ({"update_freq": (1, 9)}, 9)]
)
def test_refuses_epochs_without_an_update(options, size):
    message = f"7 batches .* one update of {size} .*--skip-remainder-batch"
    with pytest.raises(InputError, match=message):
        iterator(skip_remainder_batch=True, **options)
