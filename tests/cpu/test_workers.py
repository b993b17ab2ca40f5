"""Several workers reach what one worker reaches that accumulates as many batches; or they stop."""

import re
import sys

import pytest
import torch
from fairseq.trainer import Trainer
from helpers.recording import Step
from helpers.running import (
    DARTS,
    DERIVED,
    DERIVED_DARTS,
    EVOLVED,
    SAMPLING,
    SAMPLING_DARTS,
    SEARCH,
    start_workers,
    train,
    train_workers,
    training,
)

from fairseq_dartsformer.search_space.levels import WEIGHTS

UPDATES = 20
# Adam would make large steps of rounding errors where the exact gradient is 0, as that of the keys'
# biases: a larger epsilon than usual keeps it from that.
OPTIONS = (
    f"--max-update {UPDATES} --dropout 0 --attention-dropout 0 --adam-eps 1e-6 "
    "--disable-validation --no-save --update-freq"
).split()
# 8 batches. Where a worker's last group ends on a dummy batch, fairseq forgets the size of the
# others in it; a search by darts has no such groups.
WHOLE_GROUPS = "--batch-size 40".split()


@pytest.fixture(
    scope="module",
    params=[
        (SEARCH, 1),
        (SEARCH, 2),
        (DARTS, 1),
        (SAMPLING, 2),
        (SAMPLING_DARTS, 1),
        (DERIVED, 2),
        (DERIVED_DARTS, 1),
        (EVOLVED, 1),
    ],
)
def alone(request, data, tmp_path_factory):
    """What is trained, ``--update-freq`` of a worker, and what one worker reaches."""
    kind, update_freq = request.param
    if update_freq == 2 and kind is not SEARCH:
        kind = [*kind, *WHOLE_GROUPS]
    folder = tmp_path_factory.mktemp("alone")
    run = train(kind, data, folder, *OPTIONS, str(2 * update_freq), record=True)
    return kind, update_freq, run.steps


def levels(steps: list[Step]) -> list[str]:
    """Those that the model has parameters of."""
    return [level for level, values in steps[0].state.items() if values]


@pytest.mark.parametrize("backend", ["legacy_ddp", "pytorch_ddp"])
def test_two_workers_reach_what_one_does(alone, data, tmp_path, backend):
    kind, update_freq, steps = alone
    options = [*OPTIONS, str(update_freq), "--ddp-backend", backend]
    first, second = train_workers(kind, data, tmp_path, *options, record=True)
    one, two = first.steps, second.steps
    assert [step.updates for step in one] == list(range(UPDATES + 1))
    for level in levels(steps):
        for step, other in zip(one, two, strict=True):
            for name, value in step.state[level].items():
                assert torch.equal(value, other.state[level][name]), (step.updates, level, name)
        start, end = steps[0].state[level]["value"], steps[-1].state[level]["value"]
        if level == WEIGHTS or "uniform_sampling" not in kind:
            assert (end - start).abs().max() > 1e-2
        assert (one[-1].state[level]["value"] - end).abs().max() < 1e-4


@pytest.mark.parametrize("backend", ["legacy_ddp", "pytorch_ddp"])
def test_chunked_criterion(alone, data, tmp_path, backend):
    """Its gradients of the untied output layer reach all workers, too."""
    kind, update_freq, steps = alone
    options = [*OPTIONS, str(update_freq), "--ddp-backend", backend]
    chunked = ["--criterion", "chunked_label_smoothed_cross_entropy"]
    workers = train_workers(kind, data, tmp_path, *options, *chunked, record=True)
    for level in levels(steps):
        one, two = (worker.steps[-1].state[level]["value"] for worker in workers)
        assert torch.equal(one, two)
        assert (one - steps[-1].state[level]["value"]).abs().max() < 1e-4


def flip_alpha_of_last_worker() -> None:
    """Flip a bit of one alpha on rank 2 after 7 updates, the last of them one of the weights."""
    train_step = Trainer.train_step

    def flipping(self: Trainer, *arguments, **options):
        if sys.argv[-1] == "2" and self.get_num_updates() == 7:
            alpha = self.get_model().decoder.alpha
            alpha.data.view(torch.int32)[0, 0, 0] ^= 1 << 12
        return train_step(self, *arguments, **options)

    Trainer.train_step = flipping


@pytest.mark.parametrize(
    ("kind", "prepare", "stopped"),
    [
        (SEARCH, flip_alpha_of_last_worker, "rank 2 has another alpha than rank 0 after update 8:"),
        (SAMPLING, flip_alpha_of_last_worker, None),  # no alpha to search
        (SEARCH, None, None),
    ],
)
def test_alpha_must_be_the_same(data, tmp_path, kind, prepare, stopped):
    options = (
        "--max-update 10 --save-interval-updates 2 --batch-size 8 --ddp-backend legacy_ddp".split()
    )
    arguments = training(kind, data, tmp_path, *options)
    for run in start_workers(arguments, tmp_path, workers=3, prepare=prepare):
        assert run.wait().status == (1 if stopped else 0), run.stderr
        if stopped:
            assert re.search(r"^(\[rank\d\]: )?\S+\.WorkerError: " + stopped, run.stderr, re.M)
            assert "Traceback" not in run.stderr
    saved = {path.name for path in (tmp_path / "checkpoints").iterdir()}
    assert ("checkpoint_1_6.pt" in saved) and ("checkpoint_1_8.pt" in saved) == (not stopped)
