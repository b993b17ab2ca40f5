"""`examples/nas_benchmark`: the text on which a search selects."""

import sys
from pathlib import Path

import numpy as np
import pytest
from fairseq.data.data_utils import load_indexed_dataset

sys.path.insert(0, str(Path(__file__).parents[2] / "examples" / "nas_benchmark"))
from holding_out import hold_out
from searching import Search
from settings import SETTINGS

PAIR = ("aa", "bb")


def pairs(folder: Path, split: str) -> list[tuple[bytes, ...]]:
    """The sentence pairs of a binarised split."""
    sides = [load_indexed_dataset(f"{folder}/{split}.aa-bb.{language}") for language in PAIR]
    both = zip(*([side[i].numpy() for i in range(len(side))] for side in sides), strict=True)
    return [tuple(np.asarray(side).tobytes() for side in pair) for pair in both]


def test_held_out_text(data, tmp_path):
    """Training text divided, every copy of a pair on one side; as many pairs as for validation."""
    hold_out(data, tmp_path / "data-bin", PAIR)
    parts = [pairs(tmp_path / "data-bin", split) for split in ("train", "valid")]
    assert sorted(parts[0] + parts[1]) == sorted(pairs(data, "train"))
    assert not set(parts[0]) & set(parts[1])
    assert len(parts[1]) == pytest.approx(len(pairs(data, "valid")), rel=0.5)
    for language in PAIR:
        name = f"dict.{language}.txt"
        assert (tmp_path / "data-bin" / name).read_text() == (data / name).read_text()


def test_no_search_sees_the_judges_text(data, tmp_path):
    """Searches do not validate, and the evolution has its own text."""
    (tmp_path / "data-bin").symlink_to(data)
    for strategy in SETTINGS:
        search = Search(strategy, 1, tmp_path, tmp_path / "out")
        assert "--disable-validation" in search.command()
        own = strategy == "uniform_sampling"
        assert search.command()[2] == str((search.folder if own else tmp_path) / "data-bin")
