"""Any bad file ends a command in one line that names it; nothing is written and no code runs.

``pytest tests/cpu/test_bad_files.py --hypothesis-profile long`` tries more of them.
"""

import json
import math
import os
import shutil
from pathlib import Path

import pytest
import torch
from helpers.attempts import attempt, contents
from helpers.bad_checkpoints import (
    JUNK,
    TENSORS,
    Touch,
    altered,
    damaged,
    foreign_checkpoints,
    odd_words,
    saved,
)
from helpers.fairseq_commands import SEARCH, training
from helpers.latency_tables import latency_table
from helpers.snapshots import results
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from fairseq_dartsformer.errors import LONGEST, InputError
from fairseq_dartsformer.evolution.history import History, read_scores
from fairseq_dartsformer.search.history import history_of
from fairseq_dartsformer.search_space.alpha_history import AlphaHistory
from fairseq_dartsformer.search_space.genotype import BUILTIN, Genotype
from fairseq_dartsformer.search_space.latency_table import LatencyTable

GENOTYPE = BUILTIN["paper_fig4_approx"]
JSON = GENOTYPE.to_json().encode()
EVOLVE = "--cpu --workers 1 --generations 1 --population 2 --parents 1 --mutations 1".split()
EVOLVE += ["--crossovers", "0"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """One folder for all examples of a property."""
    return tmp_path_factory.mktemp("bad")


# -- text: genotypes, alpha tables, histories of dartsformer-evolve


@given(
    damaged(JSON)
    | odd_words(JSON)
    | altered(json.loads(JSON)).map(lambda value: json.dumps(value).encode())
    | st.sampled_from([JSON.decode().encode(code) for code in ("utf-16", "utf-32", "utf-8-sig")])
    | st.sampled_from([b"[" * 10**5, b'{"version":' * 10**4, b" " * 2 * 10**6])
)
def test_genotype(folder, content):
    path = folder / "genotype.json"
    path.write_bytes(content)
    try:
        genotype = Genotype.load(path)
    except InputError as error:
        assert str(error).startswith(f"genotype {path}: ")
    else:
        assert Genotype.from_json(genotype.to_json(), "written") == genotype


TABLE = history_of(results(2)).to_tsv().encode()


@given(damaged(TABLE) | odd_words(TABLE))
def test_alpha_table(folder, content):
    path = folder / "alpha.tsv"
    path.write_bytes(content)
    try:
        AlphaHistory.load(str(path))
    except InputError as error:
        assert str(error).startswith(str(path))


LATENCIES = latency_table().to_json().encode()


@given(
    damaged(LATENCIES)
    | odd_words(LATENCIES)
    | altered(json.loads(LATENCIES)).map(lambda value: json.dumps(value).encode())
)
def test_latency_table(folder, content):
    path = folder / "latency.json"
    path.write_bytes(content)
    try:
        table = LatencyTable.load(path)
    except InputError as error:
        assert str(error).startswith(f"latency table {path}: ")
    else:
        assert math.isfinite(sum(table.operations["encoder"].values()))


RECORD = {"generation": 1, "loss": 5.5, "parameters": 9, "genotype": json.loads(JSON)}
BEGUN = {"seed": 1, "score": "loss"}
HISTORY = "\n".join(map(json.dumps, [BEGUN, RECORD, RECORD])).encode() + b"\n"


@given(damaged(HISTORY) | odd_words(HISTORY))
def test_history(folder, content):
    """It keeps every complete line, or is refused and left unchanged."""
    path = folder / "history.jsonl"
    path.write_bytes(content)
    try:
        read_scores(str(path))
    except InputError as error:
        assert str(path) in str(error)
    try:
        History(path, "loss", BEGUN)
    except InputError as error:
        assert str(path) in str(error)
        assert path.read_bytes() == content
    else:
        assert path.read_bytes().startswith(content[: content.rfind(b"\n") + 1])


# -- checkpoints


@pytest.fixture(scope="module")
def good(logged_search) -> Path:
    """A search's checkpoint."""
    return logged_search / "checkpoints" / "checkpoint_last.pt"


def reading(path: Path, data: Path, out: Path) -> dict[str, list[str]]:
    """The arguments of every command that reads a checkpoint, by the command."""
    return {
        "derive": [str(path), "-o", f"{out}.json"],
        "plot": [str(path), "-o", f"{out}.tsv"],
        "average": [str(path), "-o", f"{out}.pt"],
        "report": [str(path.parent), "-o", f"{out}.html"],
        "evolve": [str(path), str(data), "-o", f"{out}.json", *EVOLVE],
    }


@settings(phases=[Phase.generate])  # shrinking would take minutes
@given(st.data())
def test_checkpoint(data, good, tmp_path_factory, drawn):
    folder = tmp_path_factory.mktemp("checkpoint")
    path, marker = folder / "checkpoint_last.pt", folder / "marker"
    state = torch.load(good)
    bad = altered(state, JUNK | TENSORS).map(saved) | foreign_checkpoints(state, marker)
    path.write_bytes(drawn.draw(damaged(good.read_bytes()) | bad))
    before = contents(folder)
    commands = reading(path, data, folder / "new")
    command = drawn.draw(st.sampled_from(list(commands)))
    outcome = attempt(command, *commands[command])
    assert not marker.exists()
    if outcome.status:
        assert str(path) in outcome.line
        assert contents(folder) == before


def test_touch_runs_where_files_are_not_read_safely(tmp_path):
    """The test above could fail."""
    (tmp_path / "c.pt").write_bytes(saved({"model": Touch(tmp_path / "marker")}))
    torch.load(tmp_path / "c.pt", weights_only=False)
    assert (tmp_path / "marker").exists()


# -- binarised data


@pytest.mark.parametrize("damage", [Path.unlink, lambda path: os.truncate(path, 999)])
def test_damaged_data(data, tmp_path, damage):
    copy = shutil.copytree(data, tmp_path / "data")
    damage(copy / "train.aa-bb.bb.bin")
    line = attempt("train", *training(SEARCH, copy, tmp_path)).line
    assert line.startswith(f"{copy}/train.aa-bb.bb.bin and .idx cannot be read")


# -- paths


@pytest.mark.parametrize("kind", ["missing", "folder", "loop", "long", "newline", "byte"])
def test_path(data, tmp_path, kind):
    name = {"long": "x" * 5000, "newline": "a\nb\x1b[1m", "byte": "\udcff"}.get(kind, kind)
    path = tmp_path / f"strange{name}.pt"
    if kind == "folder":
        path.mkdir()
    elif kind == "loop":
        path.symlink_to(path)
    commands = reading(path, data, tmp_path / "new")
    commands["report"][0] = str(path)
    commands["parameters"] = ["--genotype", str(path)]
    for command, arguments in commands.items():
        assert "strange" in attempt(command, *arguments).line
    assert contents(tmp_path) == {}


# -- the line


@given(st.text(min_size=1))
def test_an_error_is_one_printable_line(text):
    line = str(InputError(text))
    assert line.isprintable()
    assert text.isprintable() == (line == text) or len(text) > LONGEST


def test_the_line_of_a_long_error_is_short():
    line = str(InputError("a" * 10**6 + "b"))
    assert len(line) < LONGEST + 10
    assert line[0] == "a" and line[-1] == "b"
