"""Shared by the benchmarks: interleaved timing, description of the machine, tables, processes."""

from __future__ import annotations

import platform
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import torch

import fairseq_dartsformer
from fairseq_dartsformer.latency.measurement import processor

PLUGIN = str(Path(fairseq_dartsformer.__file__).parent)


def times(steps: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Seconds of each step: the median over rounds, after a warm-up round.

    Every round runs all steps, in a random order, because a step changes caches and heap for the
    next one.
    """
    shuffler = random.Random(0)
    measured: dict[str, list[float]] = {name: [] for name in steps}
    for i in range(rounds + 1):
        for name in shuffler.sample(list(steps), len(steps)):
            synchronize()
            start = time.perf_counter()
            steps[name]()
            synchronize()
            if i > 0:
                measured[name].append(time.perf_counter() - start)
    return {name: statistics.median(seconds) for name, seconds in measured.items()}


def synchronize() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def machine() -> str:
    """One line: processor, threads, GPU, versions."""
    parts = [processor(), f"{torch.get_num_threads()} threads"]
    if torch.cuda.is_available():
        parts.append(torch.cuda.get_device_name())
    return ", ".join([*parts, f"CPython {platform.python_version()}", f"torch {torch.__version__}"])


def print_table(header: Iterable[str], rows: Iterable[Iterable[object]]) -> None:
    """A table in Markdown; numbers with three significant digits."""
    header = list(header)
    print("|", " | ".join(header), "|")
    print("|---" * len(header) + "|")
    for row in rows:
        cells = (f"{cell:.3g}" if isinstance(cell, float) else str(cell) for cell in row)
        print("|", " | ".join(cells), "|", flush=True)


def python(*arguments: object, text: str | None = None) -> subprocess.CompletedProcess[str]:
    """Run Python, with ``text`` as its standard input; return what it prints and logs.

    Raises:
        RuntimeError: it fails.
    """
    command = [sys.executable, *map(str, arguments)]
    run = subprocess.run(command, input=text, capture_output=True, encoding="utf-8")
    if run.returncode:
        raise RuntimeError(f"{' '.join(command)}:\n{run.stderr[-3000:]}")
    return run
