"""A search that was killed and started again ends with the bits of one that never stopped.

There are 10 batches of the weights' data: 20 updates an epoch, or 10 under ``--update-freq 2``. A
search by sampling has 19 batches, as have the trainings of derived models and baselines, which
fairseq resumes in the same order within their first epoch.
"""

import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.running import (
    DARTS,
    DERIVED,
    DERIVED_DARTS,
    EVOLVED,
    SAMPLING,
    SAMPLING_DARTS,
    SEARCH,
    checkpoint,
    start,
    train,
    train_workers,
    training,
)

from fairseq_dartsformer.search_space.genotype import BUILTIN

LAST = 30  # updates
# A schedule that knows the rate from the optimizer alone, and lowers it after every epoch.
HALVING = "--lr-scheduler reduce_lr_on_plateau --lr-patience 0 --lr-threshold 9 --lr-shrink 0.5"


def bits(value: Any) -> Any:
    """What a checkpoint's entry comes to, so that two can be compared bit for bit."""
    if isinstance(value, torch.Tensor):
        return value.dtype, value.shape, value.reshape(-1).view(torch.uint8).numpy().tobytes()
    if isinstance(value, dict):
        return {key: bits(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [bits(item) for item in value]
    return value


def check_same_end(folder: Path, other: Path, last: int = LAST) -> None:
    """Weights, alpha, both Adams' states, learning rates, number of updates, place in the data."""
    one, two = checkpoint(folder), checkpoint(other)
    for state in (one, two):
        assert state["optimizer_history"][-1]["num_updates"] == last
        assert len(state["last_optimizer_state"]["state"]) > 2
    for entry in ("model", "last_optimizer_state"):
        assert bits(one[entry]) == bits(two[entry]), entry
    assert one["optimizer_history"][-1] == two["optimizer_history"][-1]
    assert one["extra_state"]["train_iterator"] == two["extra_state"]["train_iterator"]


@pytest.mark.parametrize(
    "kind", [SEARCH, SAMPLING, DERIVED], ids=["darts", "uniform_sampling", "derived"]
)
def test_validating_the_training_split_changes_nothing(data, tmp_path, kind):
    """It is gone through from its start in between, and the training goes on where it was."""
    for subset in ("valid", "valid,train"):  # the first is what the schedule is told
        options = f"--valid-subset {subset} --validate-interval-updates 7 --max-update {LAST}"
        train(kind, data, tmp_path / subset, *options.split(), "--ignore-unused-valid-subsets")
    check_same_end(tmp_path / "valid", tmp_path / "valid,train")


@pytest.mark.parametrize(
    ("kind", "options", "kills"),
    [
        # the updates after which it is killed; the checkpoint before is of the same epoch
        (SEARCH, "--update-freq 2 --num-workers 1 --disable-validation", [8]),
        (SEARCH, f"--update-freq 2 {HALVING}", [18]),
        (SEARCH, "--update-freq 1,2 --grouped-shuffling --skip-remainder-batch", [8, 28]),
        (SEARCH, "--arch-subset test --batch-size 24 --backprop store", [17, 23]),
        (DARTS, "--update-freq 2", [8]),
        (SAMPLING, "", [8, 23]),
        (SAMPLING_DARTS, "--update-freq 2 --num-workers 1", [17]),
        (DERIVED, "", [8]),
        (DERIVED_DARTS, "", [17]),
        (EVOLVED, "", [8]),
    ],
)
def test_killed_training_ends_with_the_same_bits(data, tmp_path, kind, options, kills):
    dropout = "--attention-dropout 0.1 --activation-dropout 0.1"
    dropout += "" if kind is EVOLVED else " --weight-dropout 0.1"
    arguments = f"--max-update {LAST} --save-interval-updates 5 {dropout} {options}".split()
    train(kind, data, tmp_path / "whole", *arguments)
    folder = tmp_path / "killed"
    for kill in kills:
        command = training(kind, data, folder, *arguments)
        run = start("train", command, folder / f"until{kill}", kill_after=kill).wait()
        assert run.status == -signal.SIGKILL, run.stderr
        state = checkpoint(folder)
        assert state["optimizer_history"][-1]["num_updates"] == kill // 5 * 5
        assert state["extra_state"]["train_iterator"]["iterations_in_epoch"] > 0
    train(kind, data, folder, *arguments)
    check_same_end(tmp_path / "whole", folder)


@pytest.mark.parametrize("schedule", ["", HALVING], ids=["by updates", "by loss"])
def test_search_stopped_between_epochs(data, tmp_path, schedule):
    """The end of an epoch is saved before the schedule has been told of it."""
    arguments = f"--max-update {LAST} --update-freq 2 {schedule}".split()
    train(SEARCH, data, tmp_path / "whole", *arguments)
    train(SEARCH, data, tmp_path / "stopped", *arguments, "--max-epoch", "2")
    train(SEARCH, data, tmp_path / "stopped", *arguments)
    check_same_end(tmp_path / "whole", tmp_path / "stopped")


def test_search_of_two_workers(data, tmp_path):
    arguments = f"--max-update {LAST} --save-interval-updates 5".split()
    train_workers(SEARCH, data, tmp_path / "whole", *arguments)
    folder = tmp_path / "stopped"
    train_workers(SEARCH, data, folder, *arguments, "--max-update", "17")
    train_workers(SEARCH, data, folder, *arguments)
    check_same_end(tmp_path / "whole", folder)


@pytest.mark.parametrize("kind", [SEARCH, DERIVED, EVOLVED], ids=["search", "derived", "evolved"])
def test_half_precision(data, tmp_path, kind):
    """fairseq saves fp16 weights in half: alpha, moments and the loss scale are as they were."""
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


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--seed 7", "began with --arch-fraction 0.444444 and --seed 1"),
        ("--arch-fraction 0.5", "now there are --arch-fraction 0.5 and --seed 1"),
        ("--arch-subset valid", "now there are --arch-subset valid"),
        ("--update-freq 2", "workers × --update-freq = 1, now it is 2"),
        ("--batch-size 32", "batches of weights = "),
    ],
)
def test_other_data_within_an_epoch_are_refused(data, tmp_path, options, message):
    train(SEARCH, data, tmp_path, "--max-update", "4")
    command = training(SEARCH, data, tmp_path, "--max-update", "6", *options.split())
    run = start("train", command, tmp_path / "again").wait()
    assert run.status == 1 and message in run.stderr


FIGURE = BUILTIN["paper_fig4_approx"]  # of DERIVED
AVERAGED = replace(FIGURE, pooling="avg").to_json()
CANDIDATES = "conv_3,dynamic_conv_3,self_attention,ffn,identity"  # of SEARCH
OTHERS = "conv_3,dynamic_conv_3,self_attention,identity,ffn"


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        (SEARCH, ["--pooling", "avg"], "--pooling is avg, but max in the training that"),
        (SEARCH, ["--encoder-operations", OTHERS], f"{OTHERS}, but {CANDIDATES} in the training"),
        (SEARCH, ["--decoder-operations", "zero"], "--decoder-operations is zero, but conv_3,"),
        (SEARCH, ["--encoder-splits", "3"], "--encoder-splits is 3, but 2 in the training"),
        (DARTS, ["--attention-heads", "4"], "--attention-heads is 4, but 2 in the training"),
        (DERIVED, ["--genotype", AVERAGED], "--genotype is {"),
        (EVOLVED, ["--no-scale-embedding"], "--no-scale-embedding is True, but False in the"),
    ],
)
def test_another_network_is_refused(data, tmp_path, kind, options, message):
    """Even one of the same parameters."""
    train(kind, data, tmp_path, "--max-update", "2")
    before = checkpoint(tmp_path)
    command = training(kind, data, tmp_path, "--max-update", "4", *options)
    run = start("train", command, tmp_path / "again").wait()
    assert run.status == 1 and run.stderr.splitlines()[-1].count(message) == 1, run.stderr
    assert bits(checkpoint(tmp_path)) == bits(before)


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        (SEARCH, ["--encoder-operations", CANDIDATES.replace(",", ", "), "--backprop", "store"]),
        (SEARCH, ["--decoder-splits", "3", "--dropout", "0.2", "--pooling", "max"]),
        (DERIVED, ["--genotype", FIGURE.to_json(), "--encoder-splits", "2"]),
    ],
)
def test_the_same_network_in_other_words_goes_on(data, tmp_path, kind, options):
    train(kind, data, tmp_path, "--max-update", "2")
    train(kind, data, tmp_path, "--max-update", "4", *options)
    assert checkpoint(tmp_path)["optimizer_history"][-1]["num_updates"] == 4
