"""Commands run within this process, on whatever input, and what came of them."""

from __future__ import annotations

import importlib
import io
import logging
import re
import shlex
import signal
import subprocess
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from traceback import format_exc

from fairseq import checkpoint_utils

LIMIT = 100  # seconds, in which every command must have ended; the machine may be busy


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
