"""Commands run in this process on bad input, and how they ended."""

from __future__ import annotations

import importlib
import io
import logging
import re
import sys
import warnings
from concurrent.futures import ProcessPoolExecutor
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from unittest.mock import patch

FAIRSEQ = ("train", "generate", "interactive")


@dataclass(frozen=True)
class Outcome:
    """How a command ended: its exit status and its standard error."""

    status: int
    stderr: str

    @property
    def line(self) -> str:
        """The message of a command that refused its input.

        Raises:
            AssertionError: the command worked, or wrote anything but one line of one of our
                errors; argparse may write its usage before the line.
        """
        message = re.sub(r"\Ausage: .*\n(?: .*\n|\n)*", "", self.stderr)
        found = re.fullmatch(
            r"(?:fairseq_dartsformer\.errors\.\w+|[\w.-]+: error): (.+)\n", message
        )
        assert self.status in (1, 2) and found, f"status {self.status}: {self.stderr[-2000:]}"
        return found[1]


def attempt(command: str, *arguments: str) -> Outcome:
    """Run a command, without its log and warnings, which would precede the line.

    Args:
        command: one of :data:`FAIRSEQ` for fairseq's command, otherwise one of this project's.
        arguments: as on the command line.
    """
    package = "fairseq_cli" if command in FAIRSEQ else "fairseq_dartsformer.cli"
    main = importlib.import_module(f"{package}.{command}").cli_main
    disabled, status, stderr = logging.root.manager.disable, 0, io.StringIO()
    logging.disable(logging.ERROR)
    try:
        with (
            patch.object(sys, "argv", [f"dartsformer-{command}", *arguments]),
            redirect_stdout(io.StringIO()),
            redirect_stderr(stderr),
            warnings.catch_warnings(action="ignore"),
        ):
            try:
                main()
            except SystemExit as end:
                status = int(end.code or 0)
            except Exception:
                status = 1
                sys.excepthook(*sys.exc_info())
    finally:
        logging.disable(disabled)
    return Outcome(status, stderr.getvalue())


def attempt_alone(command: str, *arguments: str) -> Outcome:
    """The same in a process of its own, which knows no plugins but those of the arguments."""
    with ProcessPoolExecutor(1, get_context("forkserver")) as pool:
        return pool.submit(attempt, command, *arguments).result()


def contents(*folders: Path) -> dict[Path, bytes]:
    """All files in the folders, except a save folder's lock, which a training leaves."""
    files = (path for folder in folders for path in folder.rglob("*") if path.is_file())
    return {path: path.read_bytes() for path in files if path.name != ".lock"}
