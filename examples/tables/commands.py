"""One command of a run: a process with a log and a record of its cost, run once."""

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

TAIL = 15  # lines shown of a failed command's log
WIDTH = 300  # characters shown of a line
PROGRESS = re.compile(r"\bloss=([\d.]+),.*\bnum_updates=(\d+),|^(generation \d+: .*|\| \d+ \|.*)")


class StepError(Exception):
    """A command failed, or a folder belongs to another run."""


@dataclass(frozen=True)
class Step:
    """A command.

    Attributes:
        folder: gets NAME.log and NAME.json, the record of the command and its cost.
        name: name of the step.
        module: module for ``python -m``.
        arguments: its arguments.
        again: whether to run it again if its arguments have changed.
    """

    folder: Path
    name: str
    module: str
    arguments: list[str]
    again: bool = False

    def run(self) -> dict[str, Any]:
        """Run the command, unless it has finished before.

        Returns:
            ``command``, ``seconds`` and ``cpu_seconds`` (of all attempts), ``peak_bytes`` (the
            largest resident set of its processes, in which Linux includes that of this process
            when it started them) and ``status``.

        Raises:
            StepError: it failed, or the folder has a record with other arguments.
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
                    f"{path} is of another command, with {'; '.join(differences)}: remove "
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
        """Run the command; add its ``status`` and costs to the record."""
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
        """The record."""
        return self.folder / f"{self.name}.json"

    @property
    def log(self) -> Path:
        """The output."""
        return self.folder / f"{self.name}.log"

    def _tail(self) -> str:
        lines = self.log.read_text(errors="replace").splitlines()[-TAIL:]
        return "\n".join([f"the end of {self.log}:", *map(_shortened, lines)])


def _shortened(line: str) -> str:
    """A long line, such as fairseq's list of options, without its middle."""
    return line if len(line) <= WIDTH else f"{line[: WIDTH // 2]} ... {line[-WIDTH // 2 :]}"


def _differences(known: list[str], command: list[str]) -> list[str]:
    """The differences of two commands in words, except for those due to the number of GPUs."""
    old, new = _machineless(known), _machineless(command)
    found = []
    for kind, a, b, c, d in SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        if kind != "equal":  # with the preceding word, the option
            was, now = old[max(a - 1, 0) : b], new[max(c - 1, 0) : d]
            found.append(f"{' '.join(was)} (now {' '.join(now)})")
    return found


def _machineless(command: list[str]) -> list[str]:
    """The command without options that depend on the number of GPUs."""
    kept, words = [], iter(command)
    for word in words:
        if word in ("--distributed-world-size", "--update-freq"):
            next(words)
        else:
            kept.append(word)
    return kept


def environment() -> dict[str, str]:
    """Settings for this checkout's commands; one thread if there is no GPU: networks are small."""
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    changed = {"PYTHONPATH": os.pathsep.join(paths), "PYTHONUNBUFFERED": "1", "PYTHONUTF8": "1"}
    if not torch.cuda.is_available():
        changed["OMP_NUM_THREADS"] = os.environ.get("OMP_NUM_THREADS", "1")
    return {**os.environ, **changed}


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Hold the folder's lock: wait until no other process works in it."""
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / ".tables.lock", "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"   waiting for another command in {folder}", flush=True)
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def write(path: Path, text: str) -> None:
    """Write a file atomically, also if another process writes it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    partial.write_text(text + "\n", encoding="utf-8")
    partial.replace(path)
