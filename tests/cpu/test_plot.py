"""`dartsformer-plot` draws genotypes, checkpoints, folders and tables, and refuses all else."""

import re
import sys
from pathlib import Path

import pytest
import torch
from helpers.snapshots import saved, search_state

from fairseq_dartsformer.cli import plot as command
from fairseq_dartsformer.search.snapshot import derive, snapshot_of
from fairseq_dartsformer.search_space.alpha_history import AlphaHistory


def run(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["dartsformer-plot", *map(str, arguments)])
    command.cli_main()


@pytest.fixture
def search(tmp_path) -> Path:
    """A save folder; two of the checkpoints are of the same update."""
    folder = tmp_path / "search"
    folder.mkdir()
    for seed, name in enumerate(["checkpoint_1_1", "checkpoint_1_2", "checkpoint_last"]):
        saved(folder / f"{name}.pt", seed=min(seed, 1))
    return folder


def words(path: Path) -> set[str]:
    """What an SVG says: matplotlib notes the text beside its outlines."""
    return {
        " ".join(text.split()) for text in re.findall(r"<!-- (.*?) -->", path.read_text(), re.S)
    }


def test_genotype_of_anything(search, tmp_path, monkeypatch):
    """A file, a name, a checkpoint, or the last checkpoint of a folder."""
    last = search_state(1)
    genotype = derive(snapshot_of(last, "c.pt"))
    (tmp_path / "genotype.json").write_text(genotype.to_json())
    given = [
        [tmp_path / "genotype.json"],
        [search / "checkpoint_last.pt"],
        [search, "--kind", "genotype"],
    ]
    files = []
    for arguments in given:
        run(monkeypatch, *arguments, "-o", tmp_path / "g.svg")
        files.append((tmp_path / "g.svg").read_bytes())
    assert files[0] == files[1] == files[2]
    assert words(tmp_path / "g.svg") >= {"source embedding", "target embedding", "layer 2"}
    run(monkeypatch, "paper_fig4_approx", "-o", tmp_path / "g.svg")
    assert (tmp_path / "g.svg").read_bytes() != files[0]


@pytest.mark.parametrize("kind", [*command.HISTORIES, None])
def test_history_of_a_folder_or_table(search, tmp_path, monkeypatch, capsys, kind):
    options = ["--kind", kind] if kind else []
    run(monkeypatch, search, "-o", tmp_path / "table.tsv")
    run(monkeypatch, search, "-o", tmp_path / "folder.svg", *options)
    run(monkeypatch, *search.iterdir(), "-o", tmp_path / "files.svg", *options)
    run(monkeypatch, tmp_path / "table.tsv", "-o", tmp_path / "table.svg", *options)
    assert capsys.readouterr().out.splitlines()[-1] == f"wrote {tmp_path / 'table.svg'}"
    assert (tmp_path / "folder.svg").read_bytes() == (tmp_path / "files.svg").read_bytes()
    assert words(tmp_path / "folder.svg") == words(tmp_path / "table.svg")
    assert AlphaHistory.load(str(tmp_path / "table.tsv")).updates == [10_000, 20_000]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("{search} -o a.txt", "-o a.txt: expected a suffix of pdf, png, svg, tsv"),
        ("{search} -o no/a.svg", "-o no/a.svg: there is no folder no"),
        ("{search} -o a.tsv --kind choices", "--kind is choices, but -o a.tsv is a table"),
        ("{search}/no.pt -o a.svg", "checkpoint .*no.pt cannot be read: No such file"),
        ("{folder} -o a.svg", ".* holds no checkpoint: expected checkpoint.*.pt files"),
        ("no_such -o a.svg", "genotype no_such: neither a file nor a built-in genotype"),
        (
            "paper_fig4_approx -o a.svg --kind choices",
            "paper_fig4_approx: expected the folder of a",
        ),
        ("paper_fig4_approx -o a.tsv", "paper_fig4_approx: expected the folder of a search, some"),
        ("{search} g.json -o a.svg", "g.json: expected the folder of a search, some of its check"),
        ("g.json {search} -o a.svg --kind genotype", "g.json: expected the folder of a search"),
        ("no.tsv -o a.svg", "no.tsv: cannot be read: No such file"),
        ("no.tsv -o a.svg --kind genotype", "--kind genotype needs a genotype or checkpoints"),
        ("{search} {folder}/checkpoint_other.pt -o a.svg", ".* has another search space than"),
        ("{sampling} -o a.svg --kind alpha", ".* uniform_sampling, which does not learn alpha"),
    ],
)
def test_bad_input(search, tmp_path, monkeypatch, capsys, arguments, message):
    folder = tmp_path / "others"
    folder.mkdir()
    if "other" in arguments:
        saved(folder / "checkpoint_other.pt", layers=1)
    sampling = search_state()
    sampling["cfg"]["task"] = {"search_strategy": "uniform_sampling"}
    torch.save(sampling, tmp_path / "sampling.pt")
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    given = arguments.format(search=search, folder=folder, sampling=tmp_path / "sampling.pt")
    with pytest.raises(SystemExit) as stop:
        run(monkeypatch, *given.split())
    captured = capsys.readouterr()
    assert stop.value.code == 1 and captured.out == "" and captured.err.count("\n") == 1
    assert re.match(f"dartsformer-plot: error: {message}", captured.err)
    assert sorted(tmp_path.rglob("*")) == before
