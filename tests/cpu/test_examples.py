"""examples/: text stays aligned and without leaks, and bad input is one clear error."""

import shutil
import sqlite3
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from fairseq.data.data_utils import infer_language_pair
from helpers.example_scripts import EXAMPLES, script

sys.path.insert(0, str(EXAMPLES))
import corpus
import prepare_text

SPLITS = ("train", "valid", "test")


def database(rows: list[tuple[int, str, str]]) -> sqlite3.Connection:
    """A database as in the package: (book, English, German), a verse each."""
    connection = sqlite3.connect(":memory:")
    connection.execute("CREATE TABLE bible (bbName, bNumber, cNumber, vNumber, vText)")
    for number, (book, *texts) in enumerate(rows):
        verses = [(name, book, number, text) for name, text in zip("4e", texts, strict=True)]
        connection.executemany("INSERT INTO bible VALUES (?, ?, 1, ?, ?)", verses)
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
    text = "".join(f"{line}\n" for line in others)
    corpus.beside(prefix, "y").write_text(text, errors="surrogateescape")


def split(text: Path, out: Path) -> dict[str, list[tuple[str, str]]]:
    out.mkdir()
    corpus.split(str(text), out, ["x", "y"])
    return {name: list(corpus.read(out / name, ["x", "y"])) for name in SPLITS}


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
    for name in SPLITS:
        write(tmp_path / names.get(name, name if folder else f"mine.{name}"), [name], ["y\u2028 z"])
    splits = split(text, tmp_path / "out")
    assert splits == {name: [(name, "y z")] for name in SPLITS}


@pytest.mark.parametrize(
    "lines, others, message",
    [
        (["a", "b"], ["a"], "differ in their number of lines"),
        (["a"], ["b"], "too few"),
        (["a", "b"], ["a", "\udcff"], r"mine\.y:2: not UTF-8"),
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
    times = Counter()
    for seed in range(300):
        drawn: list[tuple[str, str]] = []
        rest = list(corpus.draw(iter(pairs), count, drawn, seed))
        assert len(drawn) == count and sorted(rest + drawn) == sorted(pairs)
        times.update(drawn)
    # Each pair is drawn about as often: within five deviations of the binomial distribution.
    expected = 300 * count / 100
    bound = 5 * (expected * (1 - count / 100)) ** 0.5
    assert all(abs(times[pair] - expected) <= bound for pair in pairs)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory) -> Path:
    """A corpus with everything that editors and the web put into text, prepared by prepare.sh."""
    folder = tmp_path_factory.mktemp("prepared")
    lines = [f"“Nr. {i}”, it’s the (cat's) – & dog’s 1\u00a0000 \x01house…" for i in range(60)]
    others = [f"»{i}« \x1b\ufeffcães, 5\u202f%" for i in range(60)]
    lines[7], others[11], lines[57], others[57] = "\x01 \x7f", "", "\x02", "\x02"
    for language, side in (("en", lines), ("pt-BR", others)):
        text = "".join(f"{line}\n" for line in side)
        (folder / f"raw.{language}").write_text(text, encoding="utf-8-sig")
    given = "--source-lang en --target-lang pt-BR --merges 20 --max-ratio 9".split()
    result = script("prepare.sh", "--text", folder / "raw", "--out", folder, *given)
    assert result.returncode == 0, result.stderr
    assert "train: 3 pairs without text on a side are dropped" in result.stdout
    return folder


def test_prepared_data_of_an_earlier_version_are_kept(prepared):
    """Their options have the path of the text, under which it need not be named again."""
    record = prepared / "prepare.options"
    options = record.read_text()
    checksum = options.removeprefix("text with checksum ").partition(" --")[0]
    record.write_text(options.replace(f"text with checksum {checksum}", f"--text raw ({checksum})"))
    given = "--source-lang en --target-lang pt-BR --merges 20 --max-ratio 9".split()
    result = script("prepare.sh", "--text", prepared / "." / "raw", "--out", prepared, *given)
    assert result.returncode == 0 and "[prepare" not in result.stdout
    assert record.read_text() == options


@pytest.mark.parametrize("language", ["en", "pt-BR"])
def test_one_sentence_is_tokenised_as_the_corpus(prepared, language):
    """One command, on the raw lines, gives the lines from which BPE is learnt and applied."""
    command = [sys.executable, str(EXAMPLES / "corpus.py"), "tokenise", "-", "-", language]
    raw = (prepared / f"raw.{language}").read_bytes()
    lines = subprocess.run(command, input=raw, capture_output=True).stdout.decode().splitlines()
    assert len(lines) == 60
    kept = [line for i, line in enumerate(lines) if i not in (7, 11, 57)]
    files = (prepared / "tok" / f"{s}.{language.replace('-', '_')}" for s in SPLITS)
    assert kept == [line for file in files for line in file.read_text().splitlines()]


def test_prepared_data(prepared):
    """No word is empty or invisible; fairseq finds the languages in the names of the files, where
    a hyphen would separate two."""
    assert list(infer_language_pair(str(prepared / "data-bin"))) == ["en", "pt_BR"]
    assert {p.name for p in prepared.glob("data-bin/dict.*")} == {"dict.en.txt", "dict.pt_BR.txt"}
    for path in (path for kind in ("text", "tok", "bpe") for path in prepared.glob(f"{kind}/*.*")):
        assert path.stat().st_size
        for line in path.read_text().splitlines():
            assert all(word and not corpus.INVISIBLE.search(word) for word in line.split(" "))


def test_text_that_is_used_unchanged_has_no_empty_lines(prepared, tmp_path):
    shutil.copytree(prepared / "text", tmp_path / "text")
    with (tmp_path / "text" / "test.pt_BR").open("a") as file:
        print("\x01 \x02", file=file)
    given = "--source-lang en --target-lang pt_BR".split()
    result = script("prepare.sh", "--text", tmp_path / "text", "--out", tmp_path, *given)
    assert result.returncode == 1
    assert f"{tmp_path}/text/test.pt_BR:3: the line is empty" in result.stderr


def test_scripts_that_write_to_one_folder_take_turns(tmp_path):
    script = f"source {EXAMPLES}/lib.sh; alone {tmp_path}; echo begins; read -r || true"
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(["bash", "-euc", script], **pipes) as first:
        assert first.stdout.readline() == "begins\n"
        with subprocess.Popen(["bash", "-euc", script], **pipes) as second:
            assert second.stdout.readline().startswith("waiting for another script")
            first.stdin.close()
            assert second.stdout.readline() == "begins\n"


@pytest.mark.parametrize(
    ("ended", "updates", "minutes", "again"),
    [
        ("100", 100, 1, False),
        ("100", 90, 9, False),
        ("100 in 7", 90, 8, True),
        ("100", 101, 1, True),
        ("100 in 7", 100, 7, False),
        ("100 in 7", 100, 3, False),
        ("100 in 7", 100, 8, True),
        ("100 in 7", 101, 7, True),
    ],
)
def test_only_more_updates_or_minutes_train_again(tmp_path, ended, updates, minutes, again):
    """What a training of less would replace is kept."""
    folder, result = tmp_path / "train", tmp_path / "result"
    folder.mkdir()
    result.touch()
    (folder / "done").write_text(f"{ended}\n")
    (folder / "checkpoint_last.pt").touch()
    script = f"source {EXAMPLES}/lib.sh; fairseq-train() {{ echo trained; }}; seed=1 dataset=()"
    script += f" minutes={minutes}; later=({result}); train {folder} {updates}"
    subprocess.run(["bash", "-euo", "pipefail", "-c", script], check=True)
    assert result.exists() != again and (folder / "train.log").exists() == again


def test_an_empty_folder_name_is_refused():
    command = ["bash", "-c", f"source {EXAMPLES}/lib.sh; alone ''"]
    ended = subprocess.run(command, capture_output=True, text=True)
    assert ended.returncode == 1 and "name of the output folder is empty" in ended.stderr


@pytest.mark.parametrize("normalise", [True, False])
@pytest.mark.parametrize("lower_case", [True, False])
def test_tokenisation_is_the_one_of_sacremoses(tmp_path, monkeypatch, normalise, lower_case):
    monkeypatch.setattr(corpus, "CHUNK", 3)  # several chunks, and several blocks of them
    raw = "".join(f"»Nr. {i}«, said the (cat's) & dog's 1,000.5 house…\n" for i in range(150))
    command = [sys.executable, "-c", "from sacremoses.cli import cli; cli()"]
    command += ["-q", "-l", "de", *(["normalize"] if normalise else []), "tokenize"]
    expected = subprocess.run(command, input=raw.encode(), capture_output=True).stdout.decode()
    expected = expected.lower() if lower_case else expected
    assert len(expected.splitlines()) == 150
    for workers in (1, 2):
        with (tmp_path / "tok").open("w") as output:
            given = {"normalise": normalise, "lower_case": lower_case}
            corpus.tokenise(raw.splitlines(), output, "de", workers, **given)
        assert (tmp_path / "tok").read_text() == expected


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("quickstart.sh --frobnicate 1", "unknown option: --frobnicate"),
        ("prepare.sh --text", "--text needs a value"),
        ("prepare.sh positional", "unknown option: positional"),
        (
            "prepare.sh --source-lang en --target-lang de --lower-case maybe",
            "--lower-case is maybe",
        ),
        ("prepare.sh --source-lang en.x --target-lang pt_BR", "languages are en.x and pt_BR"),
        ("prepare.sh --source-lang pt-BR --target-lang pt_BR", "are both pt_BR"),
        ("prepare.sh --source-lang en --target-lang de --bpe x", "--bpe is x, it must be"),
        ("quickstart.sh --bpe x", "--bpe is x, it must be subword_nmt or sentencepiece"),
        ("quickstart.sh --bpe sentencepiece --merges 9", "--merges is 9, it must be left out"),
        ("quickstart.sh --vocabulary 9", "--vocabulary is 9, it must be left out"),
        ("quickstart.sh --bpe sentencepiece --vocabulary 0", "--vocabulary is 0, it must be"),
    ],
)
def test_scripts_refuse_options(tmp_path, command, message):
    name, *arguments = command.split()
    if "-lang" in command:
        arguments += ["--text", "mine", "--out", str(tmp_path / "out")]
    result = script(name, *arguments)
    assert result.returncode == 1
    assert message in result.stderr and len(result.stderr.splitlines()) == 1
    assert not list(tmp_path.iterdir())
