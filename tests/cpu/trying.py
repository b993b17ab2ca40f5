"""Commands run within this process, on whatever input, and what came of them."""

from __future__ import annotations

import importlib
import io
import logging
import re
import shlex
import shutil
import signal
import subprocess
import sys
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from traceback import format_exc
from unittest.mock import patch

from fairseq import checkpoint_utils
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from hypothesis.errors import HypothesisException
from hypothesis.internal.conjecture.engine import ConjectureRunner
from running import DARTS, DERIVED, EVOLVED, PLUGIN, SAMPLING, SEARCH, training
from tensorboardX import SummaryWriter

LIMIT = 100  # seconds, in which every command must have ended; the machine may be busy

KINDS = {
    "search": SEARCH,
    "darts": DARTS,
    "sampling": SAMPLING,
    "derived": DERIVED,
    "evolved": EVOLVED,
}


# Of ``dartsformer-evolve``, which takes a second by them.
EVOLVE = "--cpu --workers 1 --generations 1 --population 4 --parents 2 --mutations 1".split()
EVOLVE += ["--crossovers", "1"]
GENERATE = f"--user-dir {PLUGIN} --cpu --quiet --beam 1 --max-len-b 3 --num-workers 0".split()
LOG = """2026-01-01 00:00:00 | INFO | train_inner | epoch 001: 2 / 9 loss=7.9, num_updates=2
2026-01-01 00:00:01 | INFO | train_inner | {"epoch": 1, "loss": "7.8", "num_updates": "4"}
2026-01-01 00:00:02 | INFO | valid | epoch 001 | valid on 'valid' subset | loss 7.7 | num_updates 4
2026-01-01 00:00:03 | INFO | fairseq_cli.train | done training in 0.1 seconds
"""


class Hang(BaseException):
    """A command takes too long; no command can take it for an error of its own."""


class Unclear(AssertionError):
    """A command neither worked nor said in one line why it did not."""


@dataclass(frozen=True)
class Outcome:
    """What came of a command."""

    command: list[str]
    status: int
    stdout: str
    stderr: str

    @property
    def line(self) -> str:
        """What was said of a bad input.

        Raises:
            Unclear: it was not one line and a status, or there was none of both.
        """
        # argparse shows the usage first, indented where it is long.
        said = re.sub(r"\Ausage: .*\n(?: .*\n|\n)*", "", self.stderr)
        clear = re.fullmatch(r"(?:fairseq_dartsformer\.errors\.\w+|[\w. -]+: error): (.+)\n", said)
        if self.status not in (1, 2) or clear is None:
            raise Unclear(f"{shlex.join(self.command)}\nstatus {self.status}\n{_end(self.stderr)}")
        return clear[1]

    def expect(self) -> None:
        """See that it worked."""
        if self.status:
            raise RuntimeError(f"{self.command}: {self.stderr}")

    @property
    def kind(self) -> str:
        """``"worked"`` or ``"refused"``.

        Raises:
            Unclear: neither.
        """
        if self.status == 0 and "Traceback" not in self.stderr:
            return "worked"
        return "refused" if self.line else ""


def attempt(command: str, *arguments: str) -> Outcome:
    """What ``COMMAND ARGUMENTS...`` says; within :func:`in_processes`, as a process of its own.

    Args:
        command: `train`, `generate` of fairseq's; the others are this project's.
        arguments: as on the command line.

    Raises:
        Unclear: it did not end.
    """
    fairseqs = command in ("train", "generate")
    module = f"fairseq_cli.{command}" if fairseqs else f"fairseq_dartsformer.cli.{command}"
    if _processes:
        return _process(module, [command, *arguments])
    argv, sys.argv = sys.argv, [f"dartsformer-{command}", *arguments]
    vars(checkpoint_utils.save_checkpoint).pop("best", None)  # of the training before
    status, out, err = 0, io.StringIO(), io.StringIO()
    with _quiet(), redirect_stdout(out), redirect_stderr(err):
        try:
            with _limited():
                importlib.import_module(module).cli_main()
        except SystemExit as end:
            status = end.code if isinstance(end.code, int) else int(end.code is not None)
        except Hang:
            where = "\n".join(format_exc().splitlines()[-12:])
            raise Unclear(f"no end within {LIMIT} s: {sys.argv}\n{where}") from None
        except Exception:
            status = 1
            sys.excepthook(*sys.exc_info())
        finally:
            sys.argv = argv
    return Outcome([command, *arguments], status, out.getvalue(), err.getvalue())


_processes = False


@contextmanager
def in_processes() -> Iterator[None]:
    """Within, commands are attempted as users run them."""
    global _processes
    _processes = True
    try:
        yield
    finally:
        _processes = False


def _process(module: str, command: list[str]) -> Outcome:
    arguments = [sys.executable, "-m", module, *command[1:]]
    try:
        run = subprocess.run(arguments, capture_output=True, timeout=3 * LIMIT, check=False)
    except subprocess.TimeoutExpired:
        raise Unclear(f"no end within {3 * LIMIT} s: {arguments}") from None
    streams = (stream.decode(errors="replace") for stream in (run.stdout, run.stderr))
    return Outcome(command, run.returncode, *streams)


@contextmanager
def _quiet() -> Iterator[None]:
    """No log, and no warnings: these would stand on the standard error beside the line."""
    disabled = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)


@contextmanager
def _limited() -> Iterator[None]:
    def stop(*_):
        raise Hang

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(LIMIT)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def _end(text: str) -> str:
    """Its last lines, none of them too long."""
    return "\n".join(line[:300] for line in text.splitlines()[-12:])


@dataclass
class Place:
    """Where inputs are: good data and checkpoints, and a new folder for each attempt.

    Attributes:
        folder: of all this.
        data: binarised.
        checkpoints: by the kind of training that wrote it, each after two updates.
        files: what commands read besides, by the kind: `table`, `history`, `log` and `events`.
    """

    folder: Path
    data: Path
    checkpoints: dict[str, Path] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)
    numbers: Iterator[int] = field(default_factory=count)

    def __post_init__(self):
        for kind, options in KINDS.items():
            path = self.folder / kind
            attempt("train", *training(options, self.data, path, "--max-update", "2")).expect()
            self.checkpoints[kind] = path / "checkpoints" / "checkpoint_last.pt"
        search, made = str(self.checkpoints["search"]), self.folder / "made"
        made.mkdir()
        attempt("plot", search, "-o", f"{made}/table.tsv").expect()
        evolve = [search, str(self.data), "-o", f"{made}/x", "--history", f"{made}/history"]
        attempt("evolve", *evolve, *EVOLVE).expect()
        with SummaryWriter(str(made), filename_suffix=".x") as writer:
            for update in range(4):
                writer.add_scalar("loss", 5 - update, update)
        for kind, name in {"table": "table.tsv", "history": "history", "events": "events*"}.items():
            (path,) = made.glob(name)
            self.files[kind] = path.read_bytes()
        self.files["log"] = LOG.encode()
        self.good = contents(self.folder) | contents(self.data)

    @contextmanager
    def new_folder(self) -> Iterator[Path]:
        """A new folder, removed in the end; sees that nothing outside of it has been touched."""
        folder = self.folder / "attempts" / str(next(self.numbers))
        folder.mkdir(parents=True)
        try:
            yield folder
        finally:
            shutil.rmtree(folder)
        assert contents(self.folder) | contents(self.data) == self.good


def contents(folder: Path) -> dict[Path, bytes]:
    """All files in a folder."""
    found = {}
    for path in folder.rglob("*"):
        with suppress(OSError):
            found[path] = path.read_bytes() if path.is_file() else b""
    return {path: content for path, content in found.items() if path.is_file()}


def check(outcome: Outcome, before: dict[Path, bytes], folder: Path, *names: str) -> str:
    """Whether a command worked; or refused, lost nothing, and named what is at fault.

    Args:
        outcome: of the command.
        before: contents of the folder, before it.
        folder: that it worked in.
        names: any of these must stand in the line.

    Raises:
        Unclear: it did not.
    """
    after = contents(folder)
    if outcome.kind == "refused":
        if names and not any(name in outcome.line for name in names):
            raise Unclear(f"{outcome.command} names none of {names}: {outcome.line}")
        if after != before:
            touched = {
                str(p) for p in after.keys() | before.keys() if after.get(p) != before.get(p)
            }
            raise Unclear(f"{outcome.command} refused, having touched {touched}: {outcome.line}")
    return outcome.kind


# What tries one input, drawn from the data: returns the outcome's kind.
Property = Callable[[st.DataObject, Place], str]


def explore(
    kind: Property, place: Place, examples: int, failed: Callable[[Exception], None] | None = None
) -> Counter[str]:
    """How many of so many drawn inputs worked or were refused.

    Args:
        kind: of inputs.
        place: to try them in.
        examples: how many, always the same.
        failed: called with what went wrong, which is counted then; without it, that is raised.
    """
    tally: Counter[str] = Counter()

    @settings(
        max_examples=examples,
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate],  # shrinking would try for minutes
    )
    @given(st.data())
    def once(data: st.DataObject) -> None:
        try:
            found = kind(data, place)
        except Exception as error:
            if failed is None or isinstance(error, HypothesisException):
                raise
            failed(error)
            found = "failed"
        tally[found] += 1

    # Else most inputs are variants of the ones before, and a try may take a second.
    with patch.object(ConjectureRunner, "generate_mutations_from", lambda *_: None):
        once()
    return tally
