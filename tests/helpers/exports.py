"""Exported models and fairseq-generate, which translate the same text."""

import re
import runpy
import subprocess
import sys
from pathlib import Path
from unittest.mock import patch

from fairseq_dartsformer.search_space.genotype import Genotype
from helpers.fairseq_commands import PLUGIN, start

MIXED = Genotype(
    encoder=[["conv_3", "dynamic_conv_3"], ["self_attention", "glu"]],
    decoder=[
        ["dynamic_conv_7", "self_attention", "cross_attention"],
        ["conv_5", "cross_attention", "cross_attention"],
    ],
)


def translate(folder: Path, text: str, *options: str) -> subprocess.CompletedProcess:
    """Run the folder's program where torch, fairseq and this package cannot be imported."""
    code = (
        "import runpy, sys; sys.modules.update(dict.fromkeys(['torch', 'fairseq', "
        "'fairseq_dartsformer'])); sys.argv = sys.argv[1:]; "
        "runpy.run_path(sys.argv[0], run_name='__main__')"
    )
    command = [sys.executable, "-c", code, str(folder / "translate.py"), "--threads", "1", *options]
    return subprocess.run(command, input=text, capture_output=True, text=True, timeout=120)


def refusal(folder: Path) -> str:
    """The message with which the folder's program ends before it reads any text, in this process.

    Raises:
        AssertionError: it does not end so, or the message has more than one line.
    """
    with patch.object(sys, "argv", ["translate.py", "--threads", "1"]):
        try:
            runpy.run_path(str(folder / "translate.py"), run_name="__main__")
        except SystemExit as end:
            assert isinstance(end.code, str) and "\n" not in end.code, end.code
            return end.code
    raise AssertionError("the program does not refuse the folder")


def generated(path: Path, data: Path, folder: Path, *options: str) -> dict[int, list[tuple]]:
    """(score, translation) by fairseq-generate, the best first, by line."""
    arguments = [
        str(data),
        "--user-dir",
        PLUGIN,
        "--path",
        str(path),
        "--cpu",
        "--max-tokens",
        "60",
    ]
    arguments += "--required-batch-size-multiple 1 --max-len-a 1 --max-len-b 50".split()
    run = start("generate", [*arguments, *options], folder).wait()
    assert run.status == 0, run.stderr
    found: dict[int, list[tuple]] = {}
    for line, score, text in re.findall(r"^H-(\d+)\t(\S+)\t(.*)$", run.stdout, re.MULTILINE):
        found.setdefault(int(line), []).append((float(score), text))
    return found
