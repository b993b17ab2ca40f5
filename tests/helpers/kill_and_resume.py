"""Kill a search at random moments and resume it, until it ends; compare how it ended."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from random import Random
from signal import SIGCONT, SIGKILL, SIGSTOP
from typing import Any

import torch

from fairseq_dartsformer.fairseq_patches import load_checkpoint
from helpers.fairseq_commands import (
    SEARCH,
    TIMEOUT,
    Run,
    checkpoint,
    start,
    start_workers,
    training,
)
from helpers.training_steps import write_slowly

OPTIONS = "--attention-dropout 0.1 --save-interval-updates 3 --update-freq 2".split()
WRITE_SECONDS = 0.1  # what each file takes at least that a search writes before it is killed
SAVES = 2  # it is killed in its first moments, or soon after so many checkpoints at most
UPDATES = 8  # of a search for each kill: that is further than it gets from one to the next


@dataclass
class Tally:
    """Counts of what happened to a search.

    Attributes:
        kills: kills of a worker.
        in_writes: kills while a checkpoint was being written.
        resumes: starts that found a checkpoint.
        compared: bytes in all checkpoints that were compared; times are left out.
        differing: places that differ from those of an uninterrupted search.
    """

    kills: int = 0
    in_writes: int = 0
    resumes: int = 0
    compared: int = 0
    differing: list[str] = field(default_factory=list)


def kill_and_resume(
    data: Path,
    folder: Path,
    random: Random,
    workers: int,
    kills: int,
    in_writes: int,
    options: Collection[str] = (),
) -> Tally:
    """Kill and resume a search several times; compare it with one that was not interrupted.

    Args:
        data: binarised data.
        folder: for both searches.
        random: draws the moments, and the worker to kill.
        workers: number of workers of a search.
        kills: number of kills.
        in_writes: number of kills, at least, while a checkpoint is being written.
        options: more options of the search.

    Raises:
        AssertionError: a search did not end as expected.
    """
    folders = complete, killed = folder / "complete", folder / "killed"
    options = [*OPTIONS, *options, "--max-update", str(UPDATES * (kills + 2))]
    commands = [training(SEARCH, data, f, *options) for f in folders]
    for run in launch(commands[0], complete, workers):
        assert run.wait().status == 0, run.stderr
    tally = Tally()
    moments = [n < in_writes for n in range(kills)]
    random.shuffle(moments)
    last = killed / "checkpoints" / "checkpoint_last.pt"
    for number, in_write in enumerate(moments):
        tally.resumes += last.exists()
        kill_once(commands[1], killed, f"run{number}", random, in_write, workers, tally)
    tally.resumes += last.exists()
    for run in launch(commands[1], killed / "end", workers):
        assert run.wait().status == 0, run.stderr
    tally.compared, tally.differing = compare(complete / "checkpoints", killed / "checkpoints")
    return tally


def launch(command: list[str], output: Path, workers: int, **watching: Any) -> list[Run]:
    """Start the worker or the workers of a search."""
    if workers > 1:
        return start_workers(command, output, workers, **watching)
    return [start("train", command, output, **watching)]


def kill_once(
    command: list[str],
    folder: Path,
    name: str,
    random: Random,
    in_write: bool,
    workers: int,
    tally: Tally,
) -> None:
    """Start a search and kill one of its workers; the others must end with an error."""
    writing = Writing(folder / "checkpoints")
    runs = launch(command, folder / name, workers, prepare=partial(write_slowly, WRITE_SECONDS))
    # Workers that have not connected yet would wait until torch's timeout.
    if workers > 1:
        wait_for(lambda: all("initialized host" in output(run) for run in runs), runs)
    if in_write or random.random() < 0.7:
        saves = random.randint(1, SAVES)
        wait_for(lambda: output(runs[0]).count("Saved checkpoint") >= saves, runs)
        time.sleep(random.uniform(0, 2 * WRITE_SECONDS))
    else:
        time.sleep(random.uniform(0, 1))
    if in_write:
        stop_in_write(runs, writing, random)
    victim = random.choice(runs)
    victim.process.kill()
    tally.kills += 1
    tally.in_writes += writing()
    if in_write and victim is not runs[0]:
        os.kill(runs[0].process.pid, SIGCONT)
    assert victim.wait().status == -SIGKILL, f"the search was over: {victim.stderr}"
    for run in runs:
        if run is not victim:
            assert run.wait().status == 1, run.stderr


def stop_in_write(runs: list[Run], writing: Writing, random: Random) -> None:
    """Stop the first worker while it writes a checkpoint."""
    while True:
        wait_for(writing, runs)
        time.sleep(random.uniform(0, WRITE_SECONDS))
        os.kill(runs[0].process.pid, SIGSTOP)
        time.sleep(0.01)
        if writing():
            return
        os.kill(runs[0].process.pid, SIGCONT)


def output(run: Run) -> str:
    """The standard output so far."""
    return run.stdout if (run.folder / "stdout").exists() else ""


class Writing:
    """Tells whether a checkpoint is being written; temporary files from before do not count."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.before = self._files()

    def _files(self) -> set[tuple[str, int]]:
        files = set()
        for path in self.folder.glob("*.tmp"):
            with suppress(FileNotFoundError):  # renamed meanwhile
                files.add((path.name, path.stat().st_mtime_ns))
        return files

    def __call__(self) -> bool:
        return bool(self._files() - self.before)


def wait_for(condition: Callable[[], bool], runs: list[Run]) -> None:
    """Wait until ``condition`` holds; the runs must not end before."""
    begin = time.monotonic()
    while not condition():
        for run in runs:
            assert run.status is None, f"ended with {run.status}: {run.stderr}"
        assert time.monotonic() - begin < TIMEOUT
        time.sleep(0.002)


def compare(one: Path, two: Path) -> tuple[int, list[str]]:
    """Compare all checkpoints of two folders.

    Returns:
        the number of bytes compared, and the places that differ.
    """
    names = [sorted(path.name for path in folder.glob("checkpoint*.pt")) for folder in (one, two)]
    assert names[0] == names[1] and "checkpoint_last.pt" in names[0], names
    compared, differing = 0, []
    for name in names[0]:
        contents, others = (leaves(what_matters(folder / name)) for folder in (one, two))
        assert contents.keys() == others.keys(), contents.keys() ^ others.keys()
        compared += sum(map(len, contents.values()))
        differing += [f"{name}{key}" for key in contents if contents[key] != others[key]]
    return compared, differing


def check_same_end(folder: Path, other: Path, last: int) -> None:
    """Compare weights, alpha, optimizer states, learning rates, updates and places in the data."""
    one, two = checkpoint(folder), checkpoint(other)
    for state in (one, two):
        assert state["optimizer_history"][-1]["num_updates"] == last
        assert len(state["last_optimizer_state"]["state"]) > 2
    for entry in ("model", "last_optimizer_state"):
        assert leaves(one[entry]) == leaves(two[entry]), entry
    assert one["optimizer_history"][-1] == two["optimizer_history"][-1]
    assert one["extra_state"]["train_iterator"] == two["extra_state"]["train_iterator"]


def what_matters(path: Path) -> dict[str, Any]:
    """A checkpoint's contents without times and options."""
    state = load_checkpoint(str(path))
    extra = state["extra_state"]
    # fairseq resets the other meters at the start of an epoch.
    means = {
        name: meter
        for _, name, kind, meter in extra["metrics"]["train"]
        if kind == "AverageMeter" and meter["count"] > 0
    }
    return {
        "model": state["model"],
        "optimizer": state["last_optimizer_state"],
        "progress": state["optimizer_history"][-1],
        "data": extra["train_iterator"],
        "validation": (extra["val_loss"], extra["best"]),
        "means": means,
    }


def leaves(value: Any, place: str = "") -> dict[str, bytes]:
    """The contents of a nested value, by place."""
    if isinstance(value, torch.Tensor):
        key = f"{place} {value.dtype} {tuple(value.shape)}"
        return {key: value.reshape(-1).view(torch.uint8).numpy().tobytes()}
    if isinstance(value, list | tuple):
        value = dict(enumerate(value))
    if isinstance(value, Mapping):
        inner = (leaves(item, f"{place}/{key}") for key, item in value.items())
        return {key: content for item in inner for key, content in item.items()}
    return {place: repr(value).encode()}
