"""`examples/benchmark`: each script runs at a small size and prints its table."""

import importlib
import re
import sys
from math import isfinite
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "examples" / "benchmark"))
UPDATE = "--layers 2 --sentences 3 --length 5 --vocabulary 50"
# Options for small sizes, and the first rows of the table.
SCRIPTS = {
    "search_update": (
        f"--hidden-dims 120 --kinds store checkpoint --rounds 1 {UPDATE}",
        ["store", "checkpoint"],
    ),
    "profile_update": (f"--hidden-dim 120 --level alpha --rows 3 {UPDATE}", []),
    "one_candidate": (f"--hidden-dims 120 --rounds 1 {UPDATE}", ["120, reconstruct", "120, store"]),
    "output_layer": ("--tokens 50 --vocabulary 300 --dim 8 --rounds 1", ["complete", "chunked"]),
    "libraries": (
        "--layers 2 --width 32 --tokens 100 --rounds 1",
        ["ordinary autograd", "this project"],
    ),
    "derived": (
        "--sentences 2 --length 4 --vocabulary 50 --rounds 1",
        ["transformer", "derived"],
    ),
    "hypergradient": (
        "--poolings max --seeds 1 --updates 1 --sentences 2 --length 4 --radii 0.1 --terms 1",
        ["max"],
    ),
}


@pytest.mark.long
def test_speeds_of_translation(monkeypatch, capsys):
    """With as many tokens by every system."""
    options = f"--sizes small --batch-sizes 2 --beam 2 --rounds 1 --threads 1 {UPDATE}"
    monkeypatch.setattr(sys, "argv", ["translation.py", *options.split()])
    importlib.import_module("translation").main()
    lines = re.findall(r"^\| small \| (.*) \|$", capsys.readouterr().out, re.MULTILINE)
    rows = {name: [float(x) for x in numbers] for name, *numbers in (s.split(" | ") for s in lines)}
    assert [*rows][:3] == ["fairseq-generate, derived", "exported, float32", "exported, int8"]
    assert all(batch == 2 and min(speeds) > 0 for batch, *speeds in rows.values())


@pytest.mark.parametrize("script", SCRIPTS)
def test_table(script, monkeypatch, capsys):
    options, names = SCRIPTS[script]
    monkeypatch.setattr(sys, "argv", [f"{script}.py", *options.split()])
    importlib.import_module(script).main()
    lines = re.findall(r"^\| (.*) \|$", capsys.readouterr().out, re.MULTILINE)
    head, *rows = (line.split(" | ") for line in lines)
    assert rows and {len(row) for row in rows} == {len(head)}
    assert all(isfinite(float(cell)) for row in rows for cell in row[1:])
    assert [row[0] for row in rows][: len(names)] == names
