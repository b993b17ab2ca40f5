"""A training that was killed and resumed ends with the same bits as one that was not.

The weights' data have 10 batches: 20 updates per epoch, or 10 with ``--update-freq 2``. A search by
sampling has 19 batches, as have derived models and baselines, which fairseq resumes in the same
order within their first epoch.
"""

import os
import signal

import pytest
import torch
from helpers.fairseq_commands import (
    DARTS,
    DERIVED,
    DERIVED_DARTS,
    EVOLVED,
    SAMPLING,
    SAMPLING_DARTS,
    SEARCH,
    TEXT_DERIVED,
    TEXT_SEARCH,
    check_line,
    checkpoint,
    refused,
    start,
    start_workers,
    train,
    train_workers,
    training,
)
from helpers.kill_and_resume import check_same_end, wait_for

from fairseq_dartsformer.search_space.genotype import BUILTIN

# A schedule that knows the rate from the optimizer alone, and lowers it after every epoch.
HALVING = "--lr-scheduler reduce_lr_on_plateau --lr-patience 0 --lr-threshold 9 --lr-shrink 0.5"


@pytest.mark.parametrize("kind", [SEARCH, SAMPLING], ids=["darts", "uniform_sampling"])
def test_validating_the_training_split_changes_nothing(data, tmp_path, kind):
    """Validation reads it from the start, and training continues where it was."""
    for subset in ("valid", "valid,train"):  # the schedule is given the first one's loss
        options = f"--valid-subset {subset} --validate-interval-updates 7 --max-update 16"
        train(kind, data, tmp_path / subset, *options.split(), "--ignore-unused-valid-subsets")
    check_same_end(tmp_path / "valid", tmp_path / "valid,train", 16)


@pytest.mark.parametrize(
    ("kind", "options", "kills"),
    [
        # the updates after which it is killed; the checkpoint is of the same epoch
        (SEARCH, "--update-freq 2 --num-workers 1", [8]),
        (SEARCH, f"--update-freq 2 {HALVING}", [18]),
        (SEARCH, "--update-freq 1,2 --grouped-shuffling --skip-remainder-batch", [8, 26]),
        (SEARCH, "--arch-subset test --batch-size 24 --backprop store", [23]),
        (DARTS, "--update-freq 2", [8]),
        (SAMPLING, "", [23]),
        (SAMPLING_DARTS, "--update-freq 2 --num-workers 1", [17]),
        (DERIVED, "", [8]),
        (DERIVED_DARTS, "", [17]),
        (EVOLVED, "", [8]),
        (TEXT_SEARCH, "--update-freq 2 --num-workers 1", [8]),
        (TEXT_SEARCH, "--sample-break-mode complete_doc --arch-subset test", [8]),
        (TEXT_DERIVED, "--sample-break-mode eos", [8]),
    ],
)
def test_killed_training_ends_with_the_same_bits(data, tmp_path, kind, options, kills):
    last = kills[-1] + 5
    more = "--attention-dropout 0.1 --activation-dropout 0.1"
    more += "" if kind is EVOLVED else " --weight-dropout 0.1"
    more += "" if HALVING in options else " --disable-validation"  # which takes its loss
    arguments = f"--max-update {last} --save-interval-updates 5 {more} {options}".split()
    train(kind, data, tmp_path / "complete", *arguments)
    folder = tmp_path / "killed"
    for kill in kills:
        command = training(kind, data, folder, *arguments)
        run = start("train", command, folder / f"until{kill}", kill_after=kill).wait()
        assert run.status == -signal.SIGKILL, run.stderr
        state = checkpoint(folder)
        assert state["optimizer_history"][-1]["num_updates"] == kill // 5 * 5
        assert state["extra_state"]["train_iterator"]["iterations_in_epoch"] > 0
    train(kind, data, folder, *arguments)
    check_same_end(tmp_path / "complete", folder, last)


def test_search_stopped_between_epochs(data, tmp_path):
    """fairseq saves the end of an epoch before it gives the schedule the epoch's loss."""
    arguments = f"--max-update 14 --update-freq 2 {HALVING}".split()
    train(SEARCH, data, tmp_path / "complete", *arguments)
    train(SEARCH, data, tmp_path / "stopped", *arguments, "--max-epoch", "1")
    train(SEARCH, data, tmp_path / "stopped", *arguments)
    check_same_end(tmp_path / "complete", tmp_path / "stopped", 14)


def test_search_of_two_workers(data, tmp_path):
    """Within an epoch, of 10 updates, to the next one."""
    arguments = "--max-update 12 --save-interval-updates 5".split()
    train_workers(SEARCH, data, tmp_path / "complete", *arguments)
    folder = tmp_path / "stopped"
    train_workers(SEARCH, data, folder, *arguments, "--max-update", "7")
    train_workers(SEARCH, data, folder, *arguments)
    check_same_end(tmp_path / "complete", folder, 12)


@pytest.mark.parametrize("kind", [SEARCH, DERIVED, EVOLVED], ids=["search", "derived", "evolved"])
def test_half_precision(data, tmp_path, kind):
    """fairseq saves fp16 weights in half; alpha, moments and the loss scale are exact."""
    arguments = "--fp16 --save-interval-updates 5 --max-update".split()
    before = train(kind, data, tmp_path, *arguments, "10", record=True).steps[-1]
    saved = checkpoint(tmp_path)
    after = train(kind, data, tmp_path, *arguments, "14", record=True).steps
    assert [step.updates for step in after] == [10, 11, 12, 13, 14]
    for level, values in after[0].state.items():
        for name, value in values.items():
            if name not in ("master", "gradient"):
                assert torch.equal(value, before.state[level][name]), (level, name)
        if level == "alpha" and values:
            assert torch.equal(values["master"], before.state[level]["master"])
        elif values:
            assert (values["master"] - before.state[level]["master"]).abs().max() < 1e-3
    assert saved["last_optimizer_state"]["loss_scale"] == 128
    assert after[-1].loss < before.loss + 0.5


@pytest.mark.parametrize("precision", ["", "--amp"])
def test_options_are_those_of_the_resumed_run(data, tmp_path, precision):
    train(SEARCH, data, tmp_path, "--max-update", "4", *precision.split())
    given = "--arch-lr 0.5 --arch-weight-decay 0.25 --adam-eps 1e-5".split()
    train(SEARCH, data, tmp_path, "--max-update", "6", *given, *precision.split())
    weights, alpha = checkpoint(tmp_path)["last_optimizer_state"]["param_groups"]
    assert (alpha["lr"], alpha["weight_decay"], alpha["eps"]) == (0.5, 0.25, 1e-5)
    assert (weights["weight_decay"], weights["eps"]) == (0, 1e-5)


def test_the_same_network_in_other_words_resumes(data, tmp_path):
    """The genotype as its text in place of its name."""
    train(DERIVED, data, tmp_path, "--max-update", "2", "--disable-validation")
    genotype = BUILTIN["paper_fig4_approx"].to_json()
    words = ["--genotype", genotype, *"--encoder-splits 2 --dropout 0.2 --max-update 4".split()]
    train(DERIVED, data, tmp_path, *words)
    assert checkpoint(tmp_path)["optimizer_history"][-1]["num_updates"] == 4


def test_without_optimizer_state_only_a_new_optimizer_may_start(data, tmp_path):
    train(SEARCH, data, tmp_path, "--max-update", "2", "--no-save-optimizer-state")
    more = ["--max-update", "3"]
    refused(SEARCH, data, tmp_path, *more, pattern="has no optimizer state .* --reset-optimizer")
    train(SEARCH, data, tmp_path, *more, "--reset-optimizer")
    assert checkpoint(tmp_path)["optimizer_history"][-1]["num_updates"] == 3


def test_a_second_training_in_the_same_folder_is_refused(data, tmp_path):
    """A lock left by a killed training is not in the way, nor a training that saves nothing."""
    options = "--num-workers 1 --max-update 9999 --max-epoch 9999 --disable-validation".split()
    command = training(SEARCH, data, tmp_path, *options, "--save-interval-updates", "2")
    first = start_workers(command, tmp_path / "first", 2)
    saved = tmp_path / "checkpoints" / "checkpoint_last.pt"
    wait_for(saved.exists, first)
    for run in first:  # it keeps the lock, and leaves the processor to the others
        os.kill(run.process.pid, signal.SIGSTOP)
    try:
        pattern = f"--save-dir {saved.parent} is in use by another training"
        refused(SEARCH, data, tmp_path, *options, pattern=pattern)
        for run in start_workers(command, tmp_path / "second", 2):
            check_line(run.wait(), pattern)
        without = "--no-save --max-epoch 1 --max-update 1 --reset-dataloader --reset-optimizer"
        train(SEARCH, data, tmp_path, *without.split(), "--restore-file", str(saved))
    finally:
        for run in first:
            run.process.kill()
            run.wait()
    again = "--max-update 2 --max-epoch 1 --reset-dataloader".split()  # with one worker
    train(SEARCH, data, tmp_path, *again)
