"""One command of a run: a process with a log, done once, with what it took."""

from __future__ import annotations

import fcntl
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any

import torch
from scales import ROOT

TAIL = 15  # lines of the log of a command that failed
WIDTH = 300  # characters of a line of it
PROGRESS = re.compile(r"\bloss=([\d.]+),.*\bnum_updates=(\d+),|^(generation \d+: .*|\| \d+ \|.*)")


class StepError(Exception):
    """A command failed, or a folder is another run's."""


@dataclass(frozen=True)
class Step:
    """A command.

    Attributes:
        folder: where it works; it gets NAME.log and NAME.json, what it was and what it took.
        name: of the step.
        module: what ``python -m`` runs.
        arguments: of it.
        again: whether it is run again if it was with other arguments.
    """

    folder: Path
    name: str
    module: str
    arguments: list[str]
    again: bool = False

    def run(self) -> dict[str, Any]:
        """Run it, unless it has been run to its end; after an interruption, again.

        Returns:
            ``command``, ``seconds`` and ``cpu_seconds`` (of all attempts), ``peak_bytes`` (the
            largest resident set of its processes, or this one's own when it started them, as
            Linux counts) and ``status``.

        Raises:
            StepError: it failed, or was run here with other arguments.
        """
        path = self.path
        command = [self.module, *self.arguments]
        record = {"command": command, "seconds": 0.0, "cpu_seconds": 0.0, "peak_bytes": 0}
        record["status"] = None
        if path.exists():
            known = json.loads(path.read_text())
            differences = _differences(known["command"], command)
            if differences and not self.again:
                raise StepError(
                    f"{path} is of another command, which had {'; '.join(differences)}: remove "
                    f"{self.folder} or choose another --out"
                )
            if not differences:
                record = known
            if record["status"] == 0:
                return record
        self.folder.mkdir(parents=True, exist_ok=True)
        start = time.monotonic()
        try:
            self._execute(record)
        finally:
            record["seconds"] += time.monotonic() - start
            write(path, json.dumps(record, indent=1))
        if record["status"] != 0:
            raise StepError(f"{self.name} failed with status {record['status']}; {self._tail()}")
        return record

    def _execute(self, record: dict[str, Any]) -> None:
        """Run the command to its end, whose ``status`` and costs go into the record."""
        process = subprocess.Popen(
            [sys.executable, "-m", *record["command"]],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            env=environment(),
        )
        try:
            with self.log.open("a") as log:
                for line in process.stdout:
                    log.write(line)
                    if found := PROGRESS.search(line):
                        loss, update, other = found.groups()
                        print(f"   {other or f'update {update}: loss {loss}'}", flush=True)
        except BaseException:
            process.terminate()
            raise
        finally:
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = record["status"] = os.waitstatus_to_exitcode(status)
            record["cpu_seconds"] += usage.ru_utime + usage.ru_stime
            record["peak_bytes"] = max(record["peak_bytes"], usage.ru_maxrss * 1024)

    @property
    def path(self) -> Path:
        """Where the record of it goes."""
        return self.folder / f"{self.name}.json"

    @property
    def log(self) -> Path:
        """Where what it prints goes."""
        return self.folder / f"{self.name}.log"

    def _tail(self) -> str:
        lines = self.log.read_text(errors="replace").splitlines()[-TAIL:]
        return "\n".join([f"the end of {self.log}:", *map(_shortened, lines)])


def _shortened(line: str) -> str:
    """Without the middle of a line such as that of all of fairseq's options."""
    return line if len(line) <= WIDTH else f"{line[: WIDTH // 2]} ... {line[-WIDTH // 2 :]}"


def _differences(known: list[str], command: list[str]) -> list[str]:
    """Where two commands differ, but in what depends on how many GPUs there are, in words."""
    old, new = _machineless(known), _machineless(command)
    found = []
    for kind, a, b, c, d in SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        if kind != "equal":  # with the word before, the option
            was, now = old[max(a - 1, 0) : b], new[max(c - 1, 0) : d]
            found.append(f"{' '.join(was)} (now {' '.join(now)})")
    return found


def _machineless(command: list[str]) -> list[str]:
    """The command without what depends on how many GPUs there are."""
    kept, words = [], iter(command)
    for word in words:
        if word in ("--distributed-world-size", "--update-freq"):
            next(words)
        else:
            kept.append(word)
    return kept


def environment() -> dict[str, str]:
    """This checkout's commands; without a GPU, one thread: such networks are too small for more."""
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    changed = {"PYTHONPATH": os.pathsep.join(paths), "PYTHONUNBUFFERED": "1", "PYTHONUTF8": "1"}
    if not torch.cuda.is_available():
        changed["OMP_NUM_THREADS"] = os.environ.get("OMP_NUM_THREADS", "1")
    return {**os.environ, **changed}


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Work in a folder while nobody else does: wait until another process has left it."""
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / ".lock", "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"   waiting for another command that works in {folder}", flush=True)
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def write(path: Path, text: str) -> None:
    """Write a whole file, or none, whoever else writes it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    partial.write_text(text + "\n", encoding="utf-8")
    partial.replace(path)
