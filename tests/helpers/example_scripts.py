"""The scripts of examples/ as users run them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

EXAMPLES = Path(__file__).parents[2] / "examples"


def script(name: str, *arguments: str | Path) -> subprocess.CompletedProcess:
    """Run a script with the commands of this interpreter's environment."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "PYTHONWARNINGS": "ignore"}
    command = ["bash", EXAMPLES / name, *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=environment)
