"""What the scripts in examples/ make of text: aligned, without leaks, or one clear error."""

import importlib.util
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


prepare_text, corpus = load("prepare_text"), load("corpus")


def database(rows: list[tuple[int, str, str]]) -> sqlite3.Connection:
    """A database as in the package: (book, English, German), a verse each."""
    connection = sqlite3.connect(":memory:")
    connection.execute("CREATE TABLE bible (bbName, bNumber, cNumber, vNumber, vText)")
    for number, (book, *texts) in enumerate(rows):
        for name, text in zip("4e", texts, strict=True):
            connection.execute(
                "INSERT INTO bible VALUES (?, ?, 1, ?, ?)", (name, book, number, text)
            )
    return connection


def test_verses_are_split_by_book_without_leaks():
    said = ("He said to them,", "Und er sprach zu ihnen:")
    rows = [
        (1, "In the beginning", "Im Anfang"),
        (1, *said),
        (8, "And Ruth said,", "Und Ruth sprach:"),
        (19, "A song", "Ein Lied"),
        (27, "A dream", "Ein Traum"),
        (44, *said),
    ]
    assert prepare_text.make_splits(database(rows), "de") == {
        "test": [("And Ruth said,", "Und Ruth sprach:"), said],
        "valid": [("A dream", "Ein Traum")],
        "train": [("In the beginning", "Im Anfang")],
    }


@pytest.mark.parametrize(
    "english, german, expected",
    [
        ("don`t  [be] afraid", "fürchte dich nicht *", ("don't be afraid", "fürchte dich nicht")),
        ("Go out from here", "(51:3) Geh hinaus", ("Go out from here", "Geh hinaus")),
        ("He died. Psalm 1", "Und er starb.", None),
        ("short", "a verse that was divided elsewhere", None),
        ("He dwelt there", "(*)", None),
    ],
)
def test_marks_go_and_verses_that_do_not_match_are_left_out(english, german, expected):
    pairs = [pair for _, pair in prepare_text.verses(database([(1, english, german)]), "de")]
    assert pairs == ([expected] if expected else [])


def write(prefix: Path, lines: list[str], others: list[str]) -> None:
    corpus.beside(prefix, "x").write_text("".join(f"{line}\n" for line in lines))
    corpus.beside(prefix, "y").write_text("".join(f"{line}\n" for line in others))


def split(text: Path, out: Path) -> dict[str, list[tuple[str, str]]]:
    out.mkdir()
    corpus.split(str(text), out, ["x", "y"])
    return {name: list(corpus.read(out / name, ["x", "y"])) for name in ("train", "valid", "test")}


def test_the_last_pairs_are_held_out_and_kept_from_train(tmp_path):
    lines = [f"line {i}" for i in range(100)]
    write(tmp_path / "mine", ["line 99", "", *lines], ["y", "z", *(f"y {i}" for i in range(100))])
    splits = split(tmp_path / "mine", tmp_path / "out")
    assert [x for x, _ in splits["valid"]] == lines[90:95]
    assert [x for x, _ in splits["test"]] == lines[95:]
    assert [x for x, _ in splits["train"]] == lines[:90]
    assert all(x.replace("line", "y") == y for pairs in splits.values() for x, y in pairs)


@pytest.mark.parametrize("folder", [True, False])
def test_the_users_own_valid_and_test_are_kept(tmp_path, folder):
    text = tmp_path if folder else tmp_path / "mine"
    names = {"train": "train" if folder else "mine"}
    for name in ("train", "valid", "test"):
        write(tmp_path / names.get(name, name if folder else f"mine.{name}"), [name], ["y\u2028 z"])
    splits = split(text, tmp_path / "out")
    assert splits == {name: [(name, "y z")] for name in ("train", "valid", "test")}


@pytest.mark.parametrize(
    "lines, others, message",
    [
        (["a", "b"], ["a"], "differ in their number of lines"),
        (["a"], ["a", "b"], "differ in their number of lines"),
        (["a"], ["b"], "too few"),
        ([""], [""], "too few"),
    ],
)
def test_unusable_text_is_refused(tmp_path, lines, others, message):
    write(tmp_path / "mine", lines, others)
    with pytest.raises(ValueError, match=message):
        split(tmp_path / "mine", tmp_path / "out")


def test_long_and_unlike_pairs_are_dropped():
    pairs = [("a b", "c d"), ("a", "b c d e"), ("a b c d", "a b c d")]
    assert list(corpus.short(pairs, max_tokens=3, max_ratio=3.0)) == pairs[:1]


@pytest.mark.parametrize("count", [0, 1, 30, 99])
def test_pairs_are_drawn_at_random_and_none_is_lost(count):
    pairs = [(f"x{i}", f"y{i}") for i in range(100)]
    drawn: list[tuple[str, str]] = []
    rest = list(corpus.draw(iter(pairs), count, drawn))
    assert len(drawn) == count
    assert sorted(rest + drawn) == sorted(pairs)
    places = [0] * 100
    for seed in range(300):
        drawn = []
        list(corpus.draw(iter(pairs), count, drawn, seed))
        for pair in drawn:
            places[pairs.index(pair)] += 1
    # Each pair is drawn about as often: within five deviations of the binomial distribution.
    expected = 300 * count / 100
    assert all(abs(n - expected) <= 5 * (expected * (1 - count / 100)) ** 0.5 for n in places)


@pytest.mark.parametrize("workers", [1, 2])
def test_tokenisation_is_the_one_of_sacremoses(tmp_path, monkeypatch, workers):
    monkeypatch.setattr(corpus, "CHUNK", 3)  # several chunks, and several blocks of them
    lines = [f"»Nr. {i}«, said the (cat's) & dog's 1,000.5 house…" for i in range(150)]
    (tmp_path / "raw").write_text("".join(f"{line}\n" for line in lines))
    corpus.tokenise(tmp_path / "raw", tmp_path / "tok", "de", workers)
    command = [sys.executable, "-c", "from sacremoses.cli import cli; cli()"]
    command += "-q -l de normalize tokenize".split()
    with (tmp_path / "raw").open() as raw:
        expected = subprocess.run(command, stdin=raw, capture_output=True)
    assert (tmp_path / "tok").read_bytes() == expected.stdout
    assert len(expected.stdout.splitlines()) == 150


@pytest.mark.parametrize("script", ["quickstart.sh", "prepare.sh"])
@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--frobnicate", "1"], "unknown option: --frobnicate"),
        (["--text"], "--text needs a value"),
        (["positional"], "unknown option: positional"),
    ],
)
def test_scripts_refuse_unknown_options(script, arguments, message):
    command = ["bash", str(EXAMPLES / script), *arguments]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 1
    assert message in result.stderr and len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("minors", "named", "taken"),
    [
        ({"python3": 11, "python3.11": 11, "python3.12": 12}, None, "python3.11"),
        ({"python3": 13, "python3.12": 12, "python3.13": 13}, None, "python3.12"),
        ({"python3": 10, "python3.13": 13}, None, "python3"),
        ({"python3": 13, "python3.13": 13}, None, None),
        ({"python3": 11, "python3.13": 13}, "python3.13", "python3.13"),
        ({"python3.9": 9, "python3": 11}, "python3.9", None),
    ],
)
def test_interpreter(tmp_path, minors, named, taken):
    """One that was seen to work, or the one that is named."""
    for tool in ("bash", "cat", "dirname", "sha256sum"):
        (tmp_path / tool).symlink_to(shutil.which(tool))
    for name, minor in minors.items():
        python = tmp_path / name  # which tells its version, and can do nothing else
        python.write_text(
            "#!/bin/bash\n[[ $2 == *version_info* ]] || exit 1\n"
            f'exec {sys.executable} -c "import sys; sys.version_info = (3, {minor}, 1); $2"\n'
        )
        python.chmod(0o755)
    environment = {"PATH": str(tmp_path)} | ({"PYTHON": named} if named else {})
    command = ["bash", EXAMPLES / "install.sh", tmp_path / "venv"]
    result = subprocess.run(command, capture_output=True, text=True, env=environment)
    expected = f"{taken} cannot make virtual" if taken else "Python 3.10, 3.11 or 3.12 is needed"
    assert result.returncode == 1 and f"install.sh: {expected}" in result.stderr
