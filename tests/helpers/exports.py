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
    encoder=[["conv_3", "self_attention"]],
    decoder=[
        ["dynamic_conv_7", "self_attention", "cross_attention"],
        ["conv_5", "cross_attention", "cross_attention"],
    ],
)


def translate(folder: Path, text: str, *options: str) -> subprocess.CompletedProcess:
    """Run translate.py; see :func:`run_program`."""
    return run_program(folder / "translate.py", text, *options)


def run_program(program: Path, text: str, *options: str) -> subprocess.CompletedProcess:
    """Run a folder's program where torch, fairseq and this package cannot be imported."""
    code = (
        "import os, runpy, sys; sys.modules.update(dict.fromkeys(['torch', 'fairseq', "
        "'fairseq_dartsformer'])); sys.argv = sys.argv[1:]; "
        "sys.path.insert(0, os.path.dirname(sys.argv[0])); "
        "runpy.run_path(sys.argv[0], run_name='__main__')"
    )
    command = [sys.executable, "-c", code, str(program), "--threads", "1", *options]
    return subprocess.run(command, input=text, capture_output=True, text=True, timeout=120)


def refusal(folder: Path, program: str = "translate.py") -> str:
    """The message with which the folder's program ends before it reads any text, in this process.

    Raises:
        AssertionError: it does not end so, or the message has more than one line.
    """
    path = [str(folder), *sys.path]
    with patch.object(sys, "argv", [program, "--threads", "1"]), patch.object(sys, "path", path):
        try:
            runpy.run_path(str(folder / program), run_name="__main__")
        except SystemExit as end:
            assert isinstance(end.code, str) and "\n" not in end.code, end.code
            return end.code
        finally:
            for name in ("decoding", "loading"):  # the folder's own
                sys.modules.pop(name, None)
    raise AssertionError("the program does not refuse the folder")


def nbest_lists(text: str) -> dict[int, list[tuple[float, str]]]:
    """(score, output), the best first, by line, of what a program prints with ``--nbest``."""
    found: dict[int, list[tuple[float, str]]] = {}
    for line in text.splitlines():
        number, score, output = line.split("\t")
        found.setdefault(int(number), []).append((float(score), output))
    return found


def generated(path: Path, data: Path, folder: Path, *options: str) -> dict[int, list[tuple]]:
    """(score, translation) by fairseq-generate, the best first, by line."""
    limits = "--max-tokens 60 --required-batch-size-multiple 1 --max-len-a 1 --max-len-b 50".split()
    return by_fairseq("generate", path, data, folder, *limits, *options)


def by_fairseq(
    command: str, path: Path, data: Path, folder: Path, *options: str
) -> dict[int, list[tuple[float, str]]]:
    """(score, hypothesis) by `fairseq-generate` or `fairseq-interactive`, the best first."""
    arguments = [str(data), "--user-dir", PLUGIN, "--path", str(path), "--cpu", *options]
    run = start(command, arguments, folder).wait()
    assert run.status == 0, run.stderr
    lines = re.findall(r"^H-(\d+\t\S+\t.*)$", run.stdout, re.MULTILINE)
    return nbest_lists("\n".join(lines))


def check_equal(
    found: dict[int, list[tuple[float, str]]], expected: dict[int, list[tuple[float, str]]]
) -> None:
    """Check that n-best lists are equal, scores to 1e-3."""
    assert found.keys() == expected.keys()
    for line, hypotheses in expected.items():
        assert [text for _, text in found[line]] == [text for _, text in hypotheses]
        for (one, _), (other, _) in zip(found[line], hypotheses, strict=True):
            assert abs(one - other) < 1e-3
