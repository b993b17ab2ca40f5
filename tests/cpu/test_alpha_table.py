"""Tables of alpha: they keep all that was written, and say what is wrong with them and where."""

import re
import reprlib

import pytest
from helpers.searches import RECORDED, results

from fairseq_dartsformer.errors import InputError
from fairseq_dartsformer.search.snapshot import history_of
from fairseq_dartsformer.search_space.alpha_history import AlphaHistory


@pytest.mark.parametrize(
    "options",
    [{"layers": 1, "splits": 3}, {"decoder_splits": 3, "_name": "darts_transformer_search"}],
)
def test_table_keeps_all(options):
    history = history_of(results(3, **options))
    read = AlphaHistory.from_tsv(history.to_tsv(), "table")
    assert (read.updates, read.family) == (history.updates, history.family)
    assert read.to_tsv() == history.to_tsv()
    for one, other in zip(read.nodes, history.nodes, strict=True):
        assert one.chosen == other.chosen
        for name, weights in other.weights.items():
            assert one.weights[name] == pytest.approx(weights, abs=1e-5)


def test_recorded_table_is_as_it_would_be_written():
    assert AlphaHistory.load(str(RECORDED)).to_tsv() == RECORDED.read_text()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda text: "", ": expected lines under the names updates stack layer split"),
        (lambda text: text.replace("weight", "height", 1), ": expected lines under the names"),
        (lambda text: text + text.splitlines()[1], ", line 326: stands there twice"),
        (lambda text: text.replace("\tffn\t", " ffn\t", 1), ", line 4: has 5 columns between"),
        (lambda text: text.replace("\tffn\t", "\t\tffn\t", 1), ", line 4: has 7 columns between"),
    ],
)
def test_damaged_table(damage, message):
    with pytest.raises(InputError, match=f"^a.tsv{message}"):
        AlphaHistory.from_tsv(damage(history_of(results(3)).to_tsv()), "a.tsv")


OTHER = {
    "updates": (["-1", "1.5", "", "nan", "9" * 5000], "a whole number$"),
    "stack": (["Encoder", "", "encoder "], "encoder or decoder$"),
    "layer": (["0", "1.5", "x"], "a whole number from 1$"),
    "split": (["0", "-1", ""], "a whole number from 1$"),
    "operation": (["conv_12", '"ffn', "", "n" * 200_000], "conv_3, .*zero, identity, or what"),
    "weight": (["nan", "2.5", "-0.1", "inf", "O.1", ""], "a number from 0 to 1$"),
}


@pytest.mark.parametrize("column", OTHER)
def test_an_error_names_the_column_and_what_it_may_be(column):
    lines = history_of(results(3)).to_tsv().split("\n")
    cells = dict(zip(lines[0].split("\t"), lines[4].split("\t"), strict=True))
    values, expected = OTHER[column]
    for value in values:
        line = "\t".join((cells | {column: value}).values())
        shown = re.escape(reprlib.repr(value))
        with pytest.raises(InputError, match=f"^a.tsv, line 5: {column} is {shown}: .*{expected}"):
            AlphaHistory.from_tsv("\n".join([*lines[:4], line, *lines[5:]]), "a.tsv")


def test_a_line_that_is_missing_is_named():
    lines = history_of(results(2, layers=1)).to_tsv().splitlines()
    for k in range(1, len(lines)):
        names = zip(lines[0].split("\t"), lines[k].split("\t")[:-1], strict=False)
        line = ", ".join(f"{column} {value}" for column, value in names)
        with pytest.raises(InputError, match=f"^a.tsv: has no line of {line}$"):
            AlphaHistory.from_tsv("\n".join(lines[:k] + lines[k + 1 :]), "a.tsv")
