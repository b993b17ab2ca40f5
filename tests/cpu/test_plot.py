"""`dartsformer-plot` draws genotypes, checkpoints, folders and tables, and refuses all else."""

import re
import sys
from pathlib import Path

import pytest
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


@pytest.mark.parametrize("kind", ["genotype", *command.HISTORIES])
@pytest.mark.parametrize("seed", [1, 2])
def test_checkpoints_of_two_search_spaces_are_refused(
    search, tmp_path, monkeypatch, capsys, kind, seed
):
    """Of equal numbers of updates, too, wherever the other one is given."""
    other = saved(tmp_path / "other.pt", seed=seed, pooling="avg")
    for inputs in ([search, other], [other, search]):
        with pytest.raises(SystemExit):
            run(monkeypatch, *inputs, "-o", tmp_path / "figure.svg", "--kind", kind)
        assert "has another search space than" in capsys.readouterr().err
    assert not (tmp_path / "figure.svg").exists()
