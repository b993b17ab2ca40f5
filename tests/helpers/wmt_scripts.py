"""The scripts of examples/wmt, and others beside them, as users run them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

WMT = Path(__file__).parents[2] / "examples" / "wmt"


def step(name: str, *arguments: str, stubs: Path | None = None) -> subprocess.CompletedProcess:
    """Run a script with the commands in ``stubs`` and of this interpreter's environment.

    Args:
        name: of the script, relative to examples/wmt.
        arguments: of the script.
        stubs: a folder.
    """
    settings = {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "PYTHONWARNINGS": "ignore"}
    path = f"{stubs or ''}:{Path(sys.executable).parent}:{os.environ['PATH']}".lstrip(":")
    command = ["bash", str(WMT / name), *arguments]
    environment = {**os.environ, **settings, "PATH": path}
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=600)


def done(name: str, *arguments: str, stubs: Path | None = None) -> str:
    """Run a script that must succeed; return its output."""
    result = step(name, *arguments, stubs=stubs)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def check_refused(result: str, name: str, *arguments: str, stubs: Path | None = None) -> None:
    """Check that a script refuses a result that was made with other options."""
    ended = step(name, *arguments, stubs=stubs)
    assert ended.returncode == 1
    assert f"{result} was made with other options (" in ended.stderr.splitlines()[-1]
