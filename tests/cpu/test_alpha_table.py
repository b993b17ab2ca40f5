"""Tables of alpha: they keep all that was written, and say what is wrong with them and where."""

import re
import reprlib

import pytest
from helpers.searches import RECORDED, results

from fairseq_dartsformer.errors import InputError
from fairseq_dartsformer.search.snapshot import history_of
from fairseq_dartsformer.search_space.alpha_history import AlphaHistory


def test_table_keeps_all():
    for options in (
        {"layers": 1, "splits": 3},
        {"decoder_splits": 3, "_name": "darts_transformer_search"},
    ):
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
        (lambda text: "", "expected lines under the names updates stack layer split"),
        (lambda text: text.splitlines()[0], "expected lines under the names"),
        (lambda text: text.replace("weight", "height", 1), "expected lines under the names"),
        (lambda text: text[:-20], "has [1-5] columns between tabs, not 6|has no line of updates"),
        (lambda text: text + text.splitlines()[1], "line 326: stands there twice"),
    ],
)
def test_damaged_table(damage, message):
    text = history_of(results(3)).to_tsv()
    with pytest.raises(InputError, match=f"^a.tsv.*{message}"):
        AlphaHistory.from_tsv(damage(text), "a.tsv")


OTHER = {
    "updates": (["-1", "1.5", "", "nan", "9" * 5000], "a whole number$"),
    "stack": (["Encoder", "", "encoder "], "encoder or decoder$"),
    "layer": (["0", "1.5", "x"], "a whole number from 1$"),
    "split": (["0", "-1", ""], "a whole number from 1$"),
    "operation": (["conv_12", '"ffn', "", "n" * 200_000], "conv_3, .*zero, identity, or what"),
    "weight": (["nan", "2.5", "-0.1", "inf", "O.1", ""], "a number from 0 to 1$"),
}


@pytest.mark.parametrize("column", OTHER)
def test_a_table_s_error_names_the_column_and_what_it_may_be(column):
    lines = history_of(results(3)).to_tsv().split("\n")
    cells = dict(zip(lines[0].split("\t"), lines[4].split("\t"), strict=True))
    values, expected = OTHER[column]
    for value in values:
        line = "\t".join((cells | {column: value}).values())
        with pytest.raises(InputError) as error:
            AlphaHistory.from_tsv("\n".join([*lines[:4], line, *lines[5:]]), "a.tsv")
        shown = re.escape(reprlib.repr(value))
        assert re.match(
            f"a.tsv, line 5: {column} is {shown}: expected {expected}", str(error.value)
        )


@pytest.mark.parametrize("separator", [" ", "", "\t\t"])
def test_a_table_s_tab_that_is_lost(separator):
    """Wherever in a line it was."""
    lines = history_of(results(1)).to_tsv().splitlines()
    count = 5 + separator.count("\t")
    for k in range(1, 6):
        cells = lines[6].split("\t")
        line = "\t".join(cells[:k]) + separator + "\t".join(cells[k:])
        with pytest.raises(InputError, match=f"^a.tsv, line 7: has {count} columns between tabs"):
            AlphaHistory.from_tsv("\n".join([*lines[:6], line, *lines[7:]]), "a.tsv")


def test_a_table_s_line_that_is_missing():
    """It is told which; that a whole node is missing at all times cannot be known."""
    lines = history_of(results(2, layers=1)).to_tsv().splitlines()
    for k in range(1, len(lines)):
        names = zip(lines[0].split("\t"), lines[k].split("\t")[:-1], strict=False)
        line = ", ".join(f"{column} {value}" for column, value in names)
        with pytest.raises(InputError, match=f"^a.tsv: has no line of {line}$"):
            AlphaHistory.from_tsv("\n".join(lines[:k] + lines[k + 1 :]), "a.tsv")
