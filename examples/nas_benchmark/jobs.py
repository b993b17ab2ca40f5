"""Runs of fairseq's commands, each in a folder of its own. They can be killed, and continue."""

from __future__ import annotations

import fcntl
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from table import Row, Table

ROOT = Path(__file__).resolve().parents[2]
RESUMED = re.compile(r"Loaded checkpoint .* @ (\d+) updates")


class RunError(Exception):
    """A command failed, or a folder is another run's."""


class Job:
    """Commands on the benchmark's data.

    Attributes:
        name: of what is run.
        seed: of the run.
        data: the folder that prepare.py has made.
        out: the folder of all runs.
    """

    name: str
    seed: int
    data: Path
    out: Path

    @property
    def folder(self) -> Path:
        """Where checkpoints and logs go."""
        return self.out / f"{self.name}.seed{self.seed}"

    def complete(self, lock: int) -> Row:
        """Do what is left to do, and return the table's row.

        Args:
            lock: file descriptor of the run's lock, which the commands inherit.

        Raises:
            RunError: a command failed, or the folder is another run's.
        """
        raise NotImplementedError

    def clean(self) -> None:
        """Remove what is no longer needed."""

    def claim(self, identity: Any) -> None:
        """Write down what is run in the folder; a :class:`RunError` if it is something else."""
        record, text = self.folder / "run.json", json.dumps(identity)
        if not record.exists():
            record.with_suffix(".tmp").write_text(text)
            record.with_suffix(".tmp").replace(record)
        elif record.read_text() != text:
            raise RunError(f"{self.folder} has a run with other options: choose another --out")

    def train_to_the_end(self, words: Sequence[str], updates: int, lock: int) -> None:
        """Train from the last checkpoint on, with ``train.log``; write CPU seconds and peak memory.

        What a killed attempt took is unknown: the last attempt's time is scaled to all updates.
        """
        log = self.folder / "train.log"
        begin = log.stat().st_size if log.exists() else 0
        seconds, peak = self.execute(words, log, lock)
        resumed = RESUMED.findall(log.read_bytes()[begin:].decode(errors="replace"))
        seconds *= updates / (updates - int(resumed[-1]) if resumed else updates)
        (self.folder / "cpu_seconds").write_text(f"{seconds:.0f}")
        (self.folder / "peak_bytes").write_text(str(peak))

    def execute(self, words: Sequence[str], log: Path, lock: int) -> tuple[float, int]:
        """Run ``python``, with one thread unless the environment says more.

        Args:
            words: its arguments.
            log: is extended by the output.
            lock: file descriptor of the run's lock, which the command inherits.

        Returns:
            CPU seconds, and the peak of resident memory in bytes.

        Raises:
            RunError: the command failed.
        """
        paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
        env = {"OMP_NUM_THREADS": "1", **os.environ}
        env |= {"PYTHONPATH": os.pathsep.join(paths), "PYTHONUTF8": "1"}
        with log.open("a") as file:
            process = subprocess.Popen(
                [sys.executable, *words],
                stdout=file,
                stderr=subprocess.STDOUT,
                env=env,
                pass_fds=[lock],  # held while the command runs, even where its worker is killed
            )
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise RunError(f"{words[1]} ended with status {process.returncode}: see {log}")
        return usage.ru_utime + usage.ru_stime, 1024 * usage.ru_maxrss

    def languages(self) -> list[str]:
        """Source and target language of the data."""
        for index in (self.data / "data-bin").glob("train.*-*.*.idx"):
            return index.name.split(".")[1].split("-")
        raise RunError(f"--data {self.data}: expected a folder that prepare.py has made")

    def data_options(self, folder: Path | None = None) -> list[str]:
        """The data, by default all, and the plugin, for fairseq's commands."""
        source, target = self.languages()
        folder, plugin = folder or self.data / "data-bin", ROOT / "fairseq_dartsformer"
        words = [folder, "--user-dir", plugin, "--source-lang", source, "--target-lang", target]
        return list(map(str, words))


@contextmanager
def locked(folder: Path) -> Iterator[int | None]:
    """Hold a run's lock: its file descriptor, or ``None`` while another process holds it."""
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / ".lock", "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield None
        else:
            yield file.fileno()


def work(runs: Sequence[Job], table: Table) -> tuple[list[Job], list[Job]]:
    """Complete the runs in their order, without those that another worker holds.

    Returns:
        The runs that failed, and those that another worker held.
    """
    failed, held = [], []
    for run in runs:
        if table.has(run.name, run.seed):
            continue
        with locked(run.folder) as lock:
            if lock is None:
                held.append(run)
                continue
            if table.has(run.name, run.seed):  # completed since the first look
                continue
            print(f"{run.folder.name}: start", flush=True)
            try:
                row = run.complete(lock)
            except RunError as error:
                print(f"{run.folder.name}: {error}", flush=True)
                failed.append(run)
                continue
            table.add(row)
            run.clean()
            print(f"{run.folder.name}: done", flush=True)
    return failed, held
