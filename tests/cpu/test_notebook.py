"""The notebook runs on the save folder of any search."""

import os
import re
from pathlib import Path

import nbformat
from helpers.fairseq_commands import DARTS, train
from nbclient import NotebookClient

from fairseq_dartsformer.search.snapshot import derive, load_snapshot
from fairseq_dartsformer.search_space.genotype import Genotype

ROOT = Path(__file__).parents[2]
NOTEBOOK = ROOT / "docs" / "notebook.ipynb"


def printed(notebook) -> str:
    """All that its cells print."""
    outputs = (output for cell in notebook.cells for output in cell.get("outputs", []))
    return "".join(output.get("text", "") for output in outputs)


def pictures(notebook) -> int:
    outputs = (output for cell in notebook.cells for output in cell.get("outputs", []))
    return sum("image/png" in output.get("data", {}) for output in outputs)


def test_walks_through_a_search(data, tmp_path, monkeypatch):
    train(DARTS, data, tmp_path, *"--max-update 6 --save-interval-updates 2".split())
    monkeypatch.setenv("SEARCH", str(tmp_path / "checkpoints"))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))
    notebook = nbformat.read(NOTEBOOK, nbformat.NO_CONVERT)
    resources = {"metadata": {"path": str(tmp_path)}}
    NotebookClient(notebook, timeout=200, kernel_name="python3", resources=resources).execute()
    genotype = derive(load_snapshot(str(tmp_path / "checkpoints" / "checkpoint_last.pt")))
    assert Genotype.load(tmp_path / "genotype.json") == genotype
    text = printed(notebook)
    assert genotype.to_json() in text and "6 updates" in text
    assert f"--arch {genotype.family}" in text and re.search(r"\d\.\d\dM parameters", text)
    assert pictures(notebook) == 4


def test_stored_outputs_are_small_and_of_the_committed_search():
    notebook = nbformat.read(NOTEBOOK, nbformat.NO_CONVERT)
    genotype = Genotype.load(ROOT / "examples" / "results" / "en-de" / "genotype.json")
    assert genotype.to_json() in printed(notebook)
    assert pictures(notebook) == 4
    assert NOTEBOOK.stat().st_size < 500_000
    # Nothing of the machine that it was executed on.
    assert not re.search(r"/tmp/|/home/|/root/", printed(notebook))
