"""Several workers reach the result of one worker with larger updates, and send only gradients of
the level that is trained."""

import itertools
import json
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
from fairseq.trainer import Trainer
from helpers.fairseq_commands import (
    DARTS,
    DERIVED,
    EVOLVED,
    SAMPLING,
    SEARCH,
    TEXT_DERIVED,
    TEXT_SEARCH,
    check_line,
    run_workers,
    train,
    train_workers,
)

from fairseq_dartsformer.search_space.levels import ALPHA, LEVELS, WEIGHTS, level_of

UPDATES = 8
BACKENDS = ("legacy_ddp", "pytorch_ddp")
# Where the exact gradient is 0, as for the biases of keys, Adam would make large steps from
# rounding errors: a larger epsilon than usual prevents that.
OPTIONS = (
    f"--max-update {UPDATES} --dropout 0 --attention-dropout 0 --adam-eps 1e-6 "
    "--disable-validation --no-save --update-freq"
).split()
# 8 batches. Where a worker's last group ends with a dummy batch, fairseq loses the sizes of the
# others in it; a search by darts has no such groups.
COMPLETE_GROUPS = "--batch-size 40".split()
WITHOUT = (SEARCH, DARTS, TEXT_SEARCH, TEXT_DERIVED)


@pytest.mark.parametrize(
    ("kind", "update_freq", "more", "backend"),
    [
        *((SEARCH, 2, "", backend) for backend in BACKENDS),
        (SEARCH, 1, "--fp16", "legacy_ddp"),
        (SEARCH, 2, "--amp", "pytorch_ddp"),
        (SEARCH, 1, "--criterion chunked_label_smoothed_cross_entropy", "legacy_ddp"),
        (DARTS, 1, "", "pytorch_ddp"),
        (SAMPLING, 2, "", "legacy_ddp"),
        (SAMPLING, 1, "--fp16", "pytorch_ddp"),
        (DERIVED, 2, "", "pytorch_ddp"),
        (EVOLVED, 1, "", "legacy_ddp"),
        (TEXT_SEARCH, 2, "", "pytorch_ddp"),
        (TEXT_DERIVED, 1, "--batch-size 48", "legacy_ddp"),
    ],
    ids=lambda value: value[3] if isinstance(value, list) else None,
)
def test_two_workers_reach_the_result_of_one(data, tmp_path, kind, update_freq, more, backend):
    kind = [*kind, *more.split(), *COMPLETE_GROUPS * (kind not in WITHOUT)]
    alone = [*OPTIONS, str(2 * update_freq)]
    steps = train(kind, data, tmp_path / "alone", *alone, record=True).steps
    options = [*OPTIONS, str(update_freq), "--ddp-backend", backend]
    first, second = train_workers(kind, data, tmp_path, *options, record=True)
    one, two = first.steps, second.steps
    assert [step.updates for step in one] == [step.updates for step in steps]
    tolerance = 4e-3 if "--fp16" in kind else 1e-4
    sampling = "uniform_sampling" in kind
    for level in (level for level in LEVELS if steps[0].state[level]):
        for step, other in zip(one, two, strict=True):
            for name, value in step.state[level].items():
                assert torch.equal(value, other.state[level][name]), (step.updates, level, name)
        start, end, reached = (s.state[level]["master"] for s in (steps[0], steps[-1], one[-1]))
        if level == WEIGHTS or not sampling:
            assert (end - start).abs().max() > 1e-2
        assert (reached - end).abs().max() < tolerance
        # The same parameters have moments: those that were stepped at least once.
        assert {n: len(v) for n, v in one[-1].state[level].items()} == {
            n: len(v) for n, v in steps[-1].state[level].items()
        }
    if sampling:  # operations that were not drawn are not moved
        for before, after in itertools.pairwise(one):
            values = [s.state[WEIGHTS]["master"] for s in (before, after)]
            assert (values[0] == values[1]).float().mean() > 0.3


def count_numbers_sent(folder: Path) -> None:
    """Write how many numbers each update's ``all_reduce`` sends, with the sizes of the levels."""
    all_reduce, train_step, sent = torch.distributed.all_reduce, Trainer.train_step, []

    def counted(tensor, *arguments, **options):
        sent.append(tensor.numel())
        return all_reduce(tensor, *arguments, **options)

    def counting(self: Trainer, *arguments, **options):
        sent.clear()
        log = train_step(self, *arguments, **options)
        sizes = dict.fromkeys(LEVELS, 0)
        for parameter in self.get_model().parameters():
            sizes[level_of(parameter)] += parameter.numel()
        (level,) = getattr(self.optimizer.optimizer, "levels", (WEIGHTS,))
        with open(folder / f"sent{self.data_parallel_rank}", "a") as file:
            print(json.dumps([level, sum(sent), sizes]), file=file)
        return log

    torch.distributed.all_reduce, Trainer.train_step = counted, counting


@pytest.mark.parametrize(
    ("backend", "options"),
    [
        *((backend, "") for backend in BACKENDS),
        ("legacy_ddp", "--fp16"),
        ("pytorch_ddp", "--amp --update-freq 2"),
    ],
)
def test_workers_send_only_gradients_of_the_trained_level(data, tmp_path, backend, options):
    options = f"--max-update 4 --disable-validation --no-save --ddp-backend {backend} {options}"
    prepare = partial(count_numbers_sent, tmp_path)
    train_workers(SEARCH, data, tmp_path, *options.split(), prepare=prepare)
    for rank in range(2):
        updates = [json.loads(line) for line in (tmp_path / f"sent{rank}").open()]
        updates = [update for update in updates if update[0] is not None][-4:]
        assert [level for level, *_ in updates] == [WEIGHTS, ALPHA, WEIGHTS, ALPHA]
        for level, numbers, sizes in updates:
            assert sizes[WEIGHTS] > 100 * sizes[ALPHA] > 1000
            # and a few numbers for fairseq's statistics
            assert 0 <= numbers - sizes[level] < min(30, sizes[ALPHA]), (level, numbers, sizes)


def test_gradients_are_not_sent_in_half_precision(data, tmp_path):
    options = "--ddp-backend pytorch_ddp --ddp-comm-hook fp16".split()
    for run in run_workers(SEARCH, data, tmp_path, *options):
        check_line(run, "--ddp-comm-hook is fp16, it must be none for a supernet")


def flip_alpha_of_last_worker() -> None:
    """Flip a bit of alpha on rank 2 after update 7, which is one of the weights."""
    train_step = Trainer.train_step

    def flipping(self: Trainer, *arguments, **options):
        if self.data_parallel_rank == 2 and self.get_num_updates() == 7:
            alpha = self.get_model().decoder.alpha
            alpha.data.view(torch.int32)[0, 0, 0] ^= 1 << 12
        return train_step(self, *arguments, **options)

    Trainer.train_step = flipping


@pytest.mark.parametrize(
    ("kind", "prepare", "stopped"),
    [
        (SEARCH, flip_alpha_of_last_worker, "rank 2 has another alpha than rank 0 after update 8:"),
        (SAMPLING, flip_alpha_of_last_worker, None),  # which has no alpha to search
    ],
)
def test_alpha_must_be_the_same(
    data, tmp_path, kind, prepare: Callable[[], None], stopped: str | None
):
    options = (
        "--max-update 10 --save-interval-updates 2 --batch-size 8 --ddp-backend legacy_ddp".split()
    )
    for run in run_workers(kind, data, tmp_path, *options, workers=3, prepare=prepare):
        assert run.status == (1 if stopped else 0), run.stderr
        if stopped:
            assert re.search(r"^(\[rank\d\]: )?\S+\.WorkerError: " + stopped, run.stderr, re.M)
            assert "Traceback" not in run.stderr
    saved = {path.name for path in (tmp_path / "checkpoints").iterdir()}
    assert ("checkpoint_1_6.pt" in saved) and ("checkpoint_1_8.pt" in saved) == (not stopped)
