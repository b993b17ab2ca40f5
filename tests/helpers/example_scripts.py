"""The scripts of examples/ as users run them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

EXAMPLES = Path(__file__).parents[2] / "examples"
WMT = EXAMPLES / "wmt"


def script(
    name: str | Path, *arguments: str | Path, stubs: Path | None = None
) -> subprocess.CompletedProcess:
    """Run a script with the commands of this interpreter's environment.

    Args:
        name: of the script, relative to the folder.
        arguments: of the script.
        stubs: a folder with commands that replace others.
    """
    settings = {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "PYTHONWARNINGS": "ignore"}
    path = f"{stubs or ''}:{Path(sys.executable).parent}:{os.environ['PATH']}".lstrip(":")
    command = ["bash", EXAMPLES / name, *arguments]
    environment = {**os.environ, **settings, "PATH": path}
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=600)


def done(name: str | Path, *arguments: str, stubs: Path | None = None) -> str:
    """Run a script that must succeed; return its output."""
    result = script(name, *arguments, stubs=stubs)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def check_refused(
    result: str, name: str | Path, *arguments: str, stubs: Path | None = None
) -> None:
    """Check that a script refuses a result that was made with other options."""
    ended = script(name, *arguments, stubs=stubs)
    assert ended.returncode == 1
    assert f"{result} was made with other options (" in ended.stderr.splitlines()[-1]
