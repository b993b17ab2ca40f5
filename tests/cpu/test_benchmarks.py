"""`examples/benchmark`: what is compared is one network, and each script comes to its table."""

import importlib
import re
import sys
from argparse import Namespace
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "examples" / "benchmark"))
import search_update

from fairseq_dartsformer.search_space.levels import LEVELS

UPDATE = "--layers 2 --sentences 3 --length 5 --vocabulary 50"
# Options that make each script quick, and the first rows of its table.
SCRIPTS = {
    "search_update": (
        f"--hidden-dims 120 --kinds store checkpoint --rounds 1 {UPDATE}",
        ["store", "checkpoint"],
    ),
    "profile_update": (f"--hidden-dim 120 --level alpha --rows 3 {UPDATE}", []),
    "output_layer": ("--tokens 50 --vocabulary 300 --dim 8 --rounds 1", ["whole", "chunked"]),
    "libraries": (
        "--layers 2 --width 32 --tokens 100 --rounds 1",
        ["ordinary autograd", "this project"],
    ),
    "derived": (
        "--sentences 2 --length 4 --vocabulary 50 --rounds 1",
        ["transformer", "derived"],
    ),
}


@pytest.mark.parametrize("level", LEVELS)
def test_kinds_of_a_search_update_are_one_network(level):
    """Three give the same gradients; public code's has as many parameters, of other modules."""
    args, found = Namespace(layers=2, sentences=3, length=5, vocabulary=50), {}
    for kind in search_update.KINDS:
        search = search_update.Search(kind, args, 120)
        search.model.eval()  # dropout masks are drawn in another order
        search.update(level)
        found[kind] = {name: p for name, p in search.model.named_parameters() if p.requires_grad}
    counts = {kind: sum(p.numel() for p in of_one.values()) for kind, of_one in found.items()}
    assert len(set(counts.values())) == 1, counts
    stored = {name: p.grad for name, p in found["store"].items() if p.grad is not None}
    largest = max(grad.abs().max() for grad in stored.values())
    for kind in ("reconstruct", "checkpoint"):
        grads = {name: p.grad for name, p in found[kind].items() if p.grad is not None}
        assert grads.keys() == stored.keys()
        assert all((grads[n] - g).abs().max() < 1e-5 * largest for n, g in stored.items())


@pytest.mark.parametrize("script", SCRIPTS)
def test_table(script, monkeypatch, capsys):
    """A row for each thing, and positive numbers in it."""
    options, names = SCRIPTS[script]
    monkeypatch.setattr(sys, "argv", [f"{script}.py", *options.split()])
    importlib.import_module(script).main()
    lines = re.findall(r"^\| (.*) \|$", capsys.readouterr().out, re.MULTILINE)
    head, *rows = (line.split(" | ") for line in lines)
    assert rows and {len(row) for row in rows} == {len(head)}
    assert all(float(cell) > 0 for row in rows for cell in row[1:])
    assert [row[0] for row in rows][: len(names)] == names
