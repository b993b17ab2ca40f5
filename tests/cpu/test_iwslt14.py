"""examples/iwslt14: the pairs that fairseq's recipe selects; every step, to BLEU."""

import csv
import re
from dataclasses import astuple, fields
from itertools import product
from pathlib import Path

import pytest
from helpers.example_scripts import WMT, done, script
from helpers.wmt_archives import corpora, write_tar
from omegaconf import OmegaConf

from fairseq_dartsformer.memory.planner import count_parameters, training_config

RUN = "../iwslt14/run.sh"
DATA = "iwslt14.de-en"
TABLE = corpora.read_table(corpora.TABLE, DATA)
TRAIN, TEST = TABLE
LANGUAGES = ("de", "en")
Pair = tuple[str, str]

SMALL = (
    "common.fp16=false common.cpu=true common.tensorboard_logdir=null dataset.num_workers=0 "
    "dataset.disable_validation=true dataset.max_tokens=500 optimization.max_update=2 "
    "checkpoint.save_interval_updates=1 model.embed_dim=8 model.hidden_dim=24 model.ffn_dim=16 "
    "model.attention_heads=2 model.encoder_layers=2 model.decoder_layers=2"
).split()


def tagged(language: str, sentences: list[str]) -> str:
    """Training text of a talk: its title and description are text, the other fields are none."""
    lines = [
        "<url>http://talk</url>",
        f"<keywords>talks, {language}</keywords>",
        "<talkid>1</talkid>",
        f"<title>{sentences[0]}</title>",
        f"<description>{sentences[1]}</description>",
        *sentences[2:],
    ]
    return "".join(f" {line} \n" for line in lines)


def members(train: list[Pair], test: list[list[Pair]]) -> dict[str, bytes]:
    """The archive's files; `test` has the pairs of the five test sets."""
    files = {"de-en/README": b"not text\n"}
    for side, language in enumerate(LANGUAGES):
        (name,) = TRAIN.names("de", language)
        files[name] = tagged(language, [pair[side] for pair in train]).encode()
        for name, pairs in zip(TEST.names("de", language), test, strict=True):
            segments = [f'<seg id="{i}"> {pair[side]} </seg>' for i, pair in enumerate(pairs, 1)]
            files[name] = "\n".join(["<title>not text</title>", *segments, "</doc>", ""]).encode()
    return files


def write_table(folder: Path) -> Path:
    """A table with the address of the archive in the folder."""
    path = folder / "archives.tsv"
    with path.open("w") as file:
        writer = csv.writer(file, delimiter="\t", lineterminator="\n")
        writer.writerow([field.name for field in fields(corpora.Archive)])
        for archive in TABLE:
            writer.writerow([*astuple(archive)[:-1], (folder / archive.file).as_uri()])
    return path


def text_of(folder: Path, split: str) -> list[Pair]:
    """The pairs in the files of a split."""
    sides = ((folder / f"{split}.{language}").read_text().splitlines() for language in LANGUAGES)
    return list(zip(*sides, strict=True))


def test_selection(tmp_path):
    """At most 175 tokens a side, a full stop being one; a ratio of at most 1.5; every 23rd."""
    lengths = (1, 2, 3, 4, 6, 7, 9, 10, 116, 117, 174, 175, 176)
    grid = [(a, b) for a, b in product(lengths, repeat=2) for _ in range(2)]
    train = [tuple(f"{'Wort ' * (n - 1)}." for n in pair) for pair in grid]
    train = [(f"{i} {de}", f"{i} {en}") for i, (de, en) in enumerate(train)]
    train[40:40] = [("", "no German"), ("kein Englisch", "")]
    test = [[(f"Test {i}, {j}: es ist’s", "it’s Mine")] for i in range(5) for j in range(1)]
    write_tar(tmp_path / TRAIN.file, members(train, test))
    corpora.extract(TABLE, tmp_path, tmp_path / "text", "de")
    kept = [
        pair
        for pair in train
        if all(pair)
        and 175 >= max(counts := [len(side.split()) for side in pair]) <= 1.5 * min(counts)
    ]
    assert text_of(tmp_path / "text", "valid") == kept[22::23]
    assert text_of(tmp_path / "text", "train") == [p for i, p in enumerate(kept, 1) if i % 23]
    expected = [(f"Test {i}, 0: es ist's", "it's Mine") for i in range(5)]
    assert text_of(tmp_path / "text", "test") == expected


def some_text(count: int) -> list[Pair]:
    return [
        (
            f"Das {i % 7}. Haus – „grün“ & Baum {i % 11}.",
            f"The {i % 7}th house's “green” tree {i % 11}.",
        )
        for i in range(count)
    ]


@pytest.fixture(scope="module")
def archive(tmp_path_factory) -> Path:
    """A folder with a small archive and its table."""
    folder = tmp_path_factory.mktemp("archives")
    write_tar(folder / TRAIN.file, members(some_text(120), [some_text(2)] * 5))
    write_table(folder)
    return folder


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-200])


def foreign(path: Path) -> None:
    write_tar(path, {"fr-en/train.tags.fr-en.en": b"another\n"})


def unequal(path: Path) -> None:
    files = members(some_text(50), [some_text(2)] * 5)
    write_tar(
        path, {name: data + b"more\n" * name.endswith("-en.en") for name, data in files.items()}
    )


def no_archive(path: Path) -> None:
    path.write_text("<html>Not Found</html>")


@pytest.mark.parametrize("damage", [cut, foreign, unequal, no_archive])
def test_a_damaged_archive_is_one_line(archive, tmp_path, damage):
    file = tmp_path / TRAIN.file
    file.write_bytes((archive / TRAIN.file).read_bytes())
    damage(file)
    options = ["--archives", str(tmp_path), "--table", str(archive / "archives.tsv")]
    ended = script(WMT / "2-prepare.sh", "--data", DATA, "--work", str(tmp_path / "work"), *options)
    assert ended.returncode == 1
    (line,) = ended.stderr.splitlines()
    assert line.startswith(f"corpora.py: {file}: ")


@pytest.mark.long
def test_every_step(archive, tmp_path):
    given = ["--work", str(tmp_path), "--table", str(archive / "archives.tsv")]
    given += "--merges 60 --average 2 --workers 1".split()
    output = done(WMT / RUN, *given, "--", *SMALL)
    assert "de-en.tgz: not checked, no checksum is known" in output
    assert "tokenised: Generate test with beam=5: BLEU4 = " in output
    assert re.search(r"nrefs:1\|case:lc\|.*tok:13a\|.*version:", output)

    prepared = tmp_path / "data" / DATA
    assert text_of(prepared / "text", "test") == some_text(2) * 5
    # Neither quotation marks nor dashes are normalised.
    german = "das 0 . haus – „ grün “ &amp; baum 0 ."
    assert text_of(prepared / "tok", "test")[0] == (
        german,
        "the 0th house &apos;s “ green ” tree 0 .",
    )
    assert len(text_of(prepared / "bpe", "valid")) == 120 // 23
    config = (tmp_path / "search" / "iwslt14_max_s2" / "train.log").read_text()
    assert "'update_freq': [1]" in config and "'distributed_world_size': 1" in config

    derived = sorted((tmp_path / "genotypes" / "iwslt14_max_s2").glob("*.json"))
    genotype = tmp_path / "genotypes" / "iwslt14_max_s2.json"
    assert derived[-1].stem.endswith("_2") and genotype.read_text() == derived[-1].read_text()
    again = done(WMT / RUN, *given, "--", *SMALL)
    scores = output[output.rindex("length penalty 1.0\n") :]
    assert again.endswith(scores)
    assert "fairseq_cli.train" in output and "fairseq_cli.train" not in again


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (f"{RUN} --config tiny", "there is no configs/train/tiny.yaml, but"),
        (f"{RUN} --search sampling_max_s2", "use dartsformer-evolve instead"),
        (f"{RUN} --config transformer_iwslt14 --genotype g.json", "transformer_iwslt14 takes none"),
        (f"{RUN} --average 0", "--average is 0, it must be a positive integer"),
        (
            "3-search.sh --search iwslt14_max_s2 --gpus 2",
            "--gpus is 2, it must be at most 1, as in",
        ),
    ],
)
def test_bad_input_is_one_line(tmp_path, command, message):
    name, *arguments = command.split()
    ended = script(WMT / name, *arguments, "--work", str(tmp_path))
    assert ended.returncode == 1
    (line,) = ended.stderr.splitlines()
    assert message in line and not list(tmp_path.iterdir())


def test_as_many_parameters_as_the_transformer():
    configs = Path(__file__).parents[2] / "configs" / "train"
    model = OmegaConf.load(configs / "iwslt14.yaml").model
    sizes = {k: model[k] for k in model if k.endswith(("_dim", "_layers", "_heads"))}
    given = [word for k, v in sizes.items() for word in (f"--{k.replace('_', '-')}", str(v))]
    given += ["--share-all-embeddings", "--genotype", "paper_fig4_approx"]
    ours = count_parameters(training_config("dartsformer", given), 10_000)
    shared = training_config("transformer_iwslt_de_en", ["--share-all-embeddings"])
    assert abs(ours / count_parameters(shared, 10_000) - 1) < 0.01
