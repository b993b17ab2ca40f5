"""Whatever is wrong with an input: it works, or one line says what is wrong and nothing is lost.

``python tests/long/bad_inputs.py`` tries the same kinds of input by the thousand.
"""

import pytest
import torch
from fairseq_dartsformer.fairseq_patches.evaluation import evaluate
from helpers.attempting import Outcome, Unclear, attempt
from helpers.bad_checkpoints import Touch
from helpers.bad_kinds import BAD
from helpers.trying import Place, check, contents, explore
from hypothesis import given, settings
from hypothesis import strategies as st

from fairseq_dartsformer.errors import LONGEST, InputError
from fairseq_dartsformer.optim.bilevel_adam import read_betas

EXAMPLES = {
    "genotypes, read": 100,
    "genotypes, used": 10,
    "paths": 40,
    "data and dictionaries": 12,
    "tables, logs, events, histories": 10,
    "checkpoints, damaged": 20,
    "checkpoints, altered": 14,
    "checkpoints, foreign": 14,
    "checkpoints, of another model": 6,
    "options of trainings": 14,
    "options of commands": 10,
    "options of plans": 3,
}


@pytest.fixture(scope="module")
def place(data, tmp_path_factory) -> Place:
    return Place(tmp_path_factory.mktemp("place"), data)


@pytest.mark.parametrize("kind", EXAMPLES)
def test_works_or_says_why_not(place, kind):
    tally = explore(BAD[kind], place, EXAMPLES[kind])
    assert tally["worked"] + tally["refused"] == sum(tally.values()) >= EXAMPLES[kind] // 2
    assert tally["refused"] > 0


def test_every_kind_is_tried():
    assert EXAMPLES.keys() == BAD.keys()


@given(st.text(min_size=1))
@settings(derandomize=True, deadline=None, database=None)
def test_an_error_is_a_line(text):
    line = str(InputError(text))
    assert line.isprintable()
    assert text.isprintable() == (line == text) or len(text) > LONGEST


def test_a_long_error_is_a_short_line():
    line = str(InputError("a" * 10**6 + "b"))
    assert len(line) < LONGEST + 10
    assert line[0] == "a" and line[-1] == "b"


NUMBERS = st.integers() | st.floats(allow_nan=False, allow_infinity=False)


@given(st.recursive(NUMBERS | st.text() | st.booleans(), lambda v: st.lists(v) | st.tuples(v, v)))
@settings(derandomize=True, deadline=None, database=None)
def test_values_are_evaluated(value):
    assert evaluate(repr(value)) == value


@pytest.mark.parametrize(
    "text", ["f()", "a", "().__class__", "[x for x in ()]", "lambda: 0", "1 if 1 else 2", "(", ""]
)
def test_code_is_not(text):
    with pytest.raises(InputError, match="an option, given or from a checkpoint, is"):
        evaluate(text)
    assert evaluate(" [(2, 3)] * 2") == [(2, 3), (2, 3)]


@pytest.mark.parametrize(
    "text",
    ["-" * 100_000 + "1", "[0]*" * 3000 + "1", f"({10**400}, 0.9)"],
    ids=["signs", "products", "large"],
)
def test_what_python_gives_up_on(text):
    with pytest.raises(InputError, match=r"--adam-betas is .*, it must be a pair"):
        read_betas(text, "--adam-betas")
    if "," not in text:
        with pytest.raises(InputError, match="an option, given or from a checkpoint, is"):
            evaluate(text)


# -- that the tests above can fail


@pytest.mark.parametrize(
    ("status", "stderr"),
    [
        (1, ""),
        (1, "Traceback (most recent call last):\n  File ...\nKeyError: 1\n"),
        (1, "KeyError: 1\n"),
        (1, "x: error: one\nx: error: two\n"),
        (0, "Traceback (most recent call last):\n"),
        (-9, "x: error: one\n"),
    ],
)
def test_what_is_unclear(status, stderr):
    with pytest.raises(Unclear):
        print(Outcome(["x"], status, "", stderr).kind)


def test_what_is_lost(tmp_path):
    (tmp_path / "input").write_bytes(b"1")
    before = contents(tmp_path)
    refused = Outcome(["x"], 1, "", "x: error: input\n")
    assert check(refused, before, tmp_path, "input") == "refused"
    with pytest.raises(Unclear, match="names none"):
        check(refused, before, tmp_path, "another")
    (tmp_path / "input").write_bytes(b"2")
    with pytest.raises(Unclear, match="touched"):
        check(refused, before, tmp_path, "input")


def test_code_would_run(place, tmp_path):
    """The checkpoints that must not run code do, where they are loaded without care."""
    path = tmp_path / "checkpoint.pt"
    torch.save({"model": Touch(tmp_path / "marker")}, path)
    assert attempt("derive", str(path)).kind == "refused"
    assert not (tmp_path / "marker").exists()
    torch.load(path, weights_only=False)
    assert (tmp_path / "marker").exists()
