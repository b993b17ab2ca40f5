"""examples/wmt: every step of the paper's pipeline on archives of the real forms, made small."""

import csv
import gzip
import hashlib
import importlib.util
import io
import json
import re
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
from steps import WMT, check_refused, done, step

from fairseq_dartsformer.genotype import Genotype

STEPS = sorted(path.name for path in WMT.glob("[1-8]-*.sh"))
DATASETS = ["wmt14.en-de", "wmt18.en-de", "wmt14.en-fr", "wmt18.en-cs", "wmt18-czeng17.en-cs"]

SMALL = (
    "common.fp16=false common.cpu=true common.tensorboard_logdir=null dataset.num_workers=0 "
    "dataset.disable_validation=true dataset.max_tokens=500 optimization.max_update=2 "
    "optimization.update_freq=[1] checkpoint.save_interval_updates=1 "
    "model.embed_dim=8 model.hidden_dim=24 model.ffn_dim=16 model.attention_heads=2 "
    "model.encoder_layers=2 model.decoder_layers=2"
).split()

spec = importlib.util.spec_from_file_location("corpora", WMT / "corpora.py")
corpora = sys.modules["corpora"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(corpora)


def sentences(name: str, language: str, count: int) -> list[str]:
    """Lines of an archive's corpus in a language; every tenth is empty in one of the two."""
    lines = [
        f"{name[:12]} {language}: tree {i % 7} & house {i % 11}, »{i % 5}«." for i in range(count)
    ]
    for i in range(3 if language == "en" else 8, count, 10):
        lines[i] = ""
    return lines


def text_of(archive: corpora.Archive, language: str) -> list[str]:
    return sentences(archive.file, language, 150 if "v9" in archive.file else 20)


def content(archive: corpora.Archive) -> dict[str, bytes]:
    """The members of an archive, of every foreign language that its data sets have."""
    files = {"README": b"not text\n"}
    for foreign in {name.rpartition("-")[2] for name in archive.datasets.split(",")}:
        sides = {language: text_of(archive, language) for language in ("en", foreign)}
        if archive.kind == "czeng":
            rows = zip(sides["cs"], sides["en"], strict=True)
            blocks = (f"news-b{i % 3}-00train-s{i}\t0.9\t{c}\t{e}" for i, (c, e) in enumerate(rows))
            halves = {"00": [], "97": []}
            for i, block in enumerate(blocks):
                halves["00" if i < 10 else "97"].append(f"{block}\n\n")
            for part, lines in halves.items():
                member = archive.members.replace("*", part)
                files[member] = gzip.compress("".join(lines).encode())
            files[archive.members.replace("*train", "98dtest")] = b"another form"
            continue
        for language, lines in sides.items():
            if archive.kind in ("valid", "test"):
                lines = [f'<seg id="{i}">{line}</seg>' for i, line in enumerate(lines, 1)]
                lines = ['<refset setid="newstest">', '<doc docid="1">', *lines, "</doc>"]
            data = "".join(f"{line}\n" for line in lines).encode()
            member = archive.member(foreign, language)
            files[member] = gzip.compress(data) if member.endswith(".gz") else data
    return files


def pack(archive: corpora.Archive, path: Path) -> None:
    if archive.kind == "czeng-blocks":
        with zipfile.ZipFile(path, "w") as file:
            file.writestr(archive.members, "my %bad = map {($_,1)} qw{1 7\n 19};")
        return
    with tarfile.open(path, "w" if path.suffix == ".tar" else "w:gz") as file:
        for name, data in content(archive).items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            file.addfile(info, io.BytesIO(data))


@pytest.fixture(scope="module")
def archives(tmp_path_factory) -> Path:
    """A folder with all archives and their table: archives.tsv with these sizes and checksums."""
    folder = tmp_path_factory.mktemp("archives")
    lines = [line for line in corpora.TABLE.read_text().splitlines() if line[0] != "#"]
    rows = list(csv.DictReader(lines, delimiter="\t"))
    for row in rows:
        path = folder / row["file"]
        pack(corpora.Archive(**row), path)
        row["url"] = path.as_uri()
        if row["checksum"] != "-":
            kind = row["checksum"].partition(":")[0]
            row["checksum"] = f"{kind}:{hashlib.new(kind, path.read_bytes()).hexdigest()}"
            row["bytes"] = str(path.stat().st_size)
    with (folder / "archives.tsv").open("w") as table:
        writer = csv.DictWriter(table, rows[0], delimiter="\t", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return folder


def test_the_table_is_whole():
    """Every data set has training text and a test set; checksums have the length of their kind."""
    for dataset in DATASETS:
        kinds = [archive.kind for archive in corpora.read_table(corpora.TABLE, dataset)]
        assert kinds.count("test") == kinds.count("valid") == 1 and "lines" in kinds
    lengths = {"sha256": 64, "md5": 32}
    for dataset in DATASETS:
        for archive in corpora.read_table(corpora.TABLE, dataset):
            kind, _, digest = archive.checksum.partition(":")
            if kind != "-":
                assert re.fullmatch(rf"[0-9a-f]{{{lengths[kind]}}}", digest)
    with pytest.raises(ValueError, match=r"expected one of wmt14\.en-de"):
        corpora.read_table(corpora.TABLE, "wmt14.de-en")


@pytest.mark.parametrize("dataset", DATASETS)
def test_archives_become_aligned_text(archives, tmp_path, dataset):
    table = corpora.read_table(archives / "archives.tsv", dataset)
    foreign = dataset.rpartition("-")[2]
    corpora.extract(table, archives, tmp_path, foreign)
    excluded = {1, 7, 19} if "czeng17" in dataset else set()
    expected = {"train": [], "valid": [], "test": []}
    for archive in table:
        if archive.kind == "czeng-blocks":
            continue
        pairs = zip(text_of(archive, "en"), text_of(archive, foreign), strict=True)
        for i, pair in enumerate(pairs):
            if all(pair) and not (archive.kind == "czeng" and i % 3 in excluded):
                split = archive.kind if archive.kind in ("valid", "test") else "train"
                expected[split].append(pair)
    for split, pairs in expected.items():
        assert (
            list(
                corpora.align(
                    *((tmp_path / f"{split}.{language}").open() for language in ("en", foreign)),
                    split,
                )
            )
            == pairs
        )


def test_downloads_go_on_and_are_checked(archives, tmp_path, capsys):
    table = corpora.read_table(archives / "archives.tsv", "wmt18.en-cs")
    first, unchecked = table[0], next(archive for archive in table if archive.checksum == "-")
    data = (archives / first.file).read_bytes()
    part = tmp_path / f"{first.file}.part"
    part.write_bytes(data[:1000])
    corpora.download(first, tmp_path)
    assert (tmp_path / first.file).read_bytes() == data and not part.exists()

    corpora.download(unchecked, tmp_path)
    digest = hashlib.sha256((archives / unchecked.file).read_bytes()).hexdigest()
    assert f"no checksum is known; its sha256 is {digest}" in capsys.readouterr().out

    nowhere = corpora.Archive(**{**vars(first), "url": "file:///nowhere"})
    corpora.download(nowhere, tmp_path)  # it is there
    (tmp_path / first.file).write_bytes(bytes(reversed(data)))
    with pytest.raises(
        ValueError, match=r"europarl-v7.tgz: has the sha256 \w+, expected \w+: remove it"
    ):
        corpora.download(nowhere, tmp_path)
    (tmp_path / first.file).unlink()
    with pytest.raises(ValueError, match="curl ended with status"):
        corpora.download(nowhere, tmp_path)


def test_every_step(archives, tmp_path):
    work = ["--work", str(tmp_path)]
    source = [*work, "--data", "wmt14.en-de", "--table", str(archives / "archives.tsv")]
    done("1-download.sh", *source)
    options = "--merges 60 --held-out 12 --workers 2".split()
    done("2-prepare.sh", *source, *options)
    prepared = tmp_path / "data" / "wmt14.en-de"
    assert len((prepared / "bpe" / "valid.en").read_text().splitlines()) == 12
    assert done("2-prepare.sh", *source, *options) == ""
    check_refused(str(prepared), "2-prepare.sh", *source, *options, "--merges", "61")

    search = [*work, "--gpus", "1"]
    done("3-search.sh", *search, "--", *SMALL)
    assert done("3-search.sh", *search, "--", *SMALL) == ""
    searched = str(tmp_path / "search" / "max_s2")
    check_refused(searched, "3-search.sh", *search)
    check_refused(searched, "3-search.sh", *search, "--data", "wmt18.en-de", "--", *SMALL)
    assert "--every is 10000: no checkpoint" in step("4-derive.sh", *work).stderr
    folder = tmp_path / "genotypes" / "max_s2"
    for every, updates in [("2", ["2"]), ("1", ["1", "2"])]:
        report = done("4-derive.sh", *work, "--every", every)
        assert report == (folder / "report.txt").read_text()
        genotypes = sorted(folder.glob("*.json"))
        assert [path.stem.rpartition("_")[2] for path in genotypes] == updates
        assert all(f"_{update}.pt: {update} updates" in report for update in updates)

    # The first genotype is retrained; the second, another one, has been before, with a better BLEU.
    genotypes[0].write_text(Genotype.load("paper_fig4_approx").to_json())
    other = json.loads(genotypes[0].read_text())
    other["encoder"][0][0] = "identity"
    genotypes[1].write_text(json.dumps(other))
    trained = tmp_path / "select" / "max_s2" / genotypes[1].stem
    trained.mkdir(parents=True)
    for name in ("done", "average.pt"):
        (trained / name).touch()
    (trained / "tune.tsv").write_text("0.0\t98.5\n0.5\t99.5\n")
    quick = ["--average", "2", "--penalties", "0.0 0.5"]
    selected = done("5-select.sh", *work, "--gpus", "1", *quick, "--", *SMALL)
    assert f"selected: {genotypes[1].stem}" in selected
    scores = (tmp_path / "select" / "max_s2" / "scores.tsv").read_text().splitlines()
    assert scores[0] == f"99.5\t{genotypes[1].stem}" and len(scores) == 2
    assert (tmp_path / "genotypes" / "max_s2.json").read_text() == genotypes[1].read_text()

    trained = tmp_path / "select" / "max_s2" / genotypes[0].stem
    data, model = ["--data", "wmt14.en-de"], ["--model", str(trained)]
    again = [*work, *data, *model, "--gpus", "1", "--average", "2"]
    assert done("6-train.sh", *again, "--genotype", str(genotypes[0]), "--", *SMALL) == ""
    check_refused(str(trained), "6-train.sh", *again, "--genotype", str(genotypes[1]), "--", *SMALL)
    check_refused(f"{trained}/tune.tsv", "7-tune.sh", *work, *data, *model, "--", "--beam", "2")
    bleu = done("8-test.sh", *work, *data, *model)
    assert "tokenised: Generate test with beam=5: BLEU4 = " in bleu
    assert re.search(r"nrefs:1\|.*tok:13a\|.*version:", bleu)
    assert bleu.endswith(done("8-test.sh", *work, *data, *model))
    check_refused(f"{trained}/bleu", "8-test.sh", *work, *data, *model, "--", "--beam", "2")
    (trained / "tune.tsv").write_text("0.3\t99.0\n")
    check_refused(f"{trained}/bleu", "8-test.sh", *work, *data, *model)
    (trained / "average.pt").write_bytes(b"another")
    check_refused(f"{trained}/tune.tsv", "7-tune.sh", *work, *data, *model)


@pytest.mark.parametrize("name", STEPS)
def test_help_names_every_option(name):
    known = re.search(r'^options "([a-z -]+)"', (WMT / name).read_text(), re.MULTILINE)[1].split()
    text = done(name, "--help")
    assert all(f"--{option} " in text for option in known if option != "--")
    assert text.startswith(
        ("Downloads", "Makes", "A", "The", "Retrains", "Trains", "Tunes", "Translates")
    )


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("1-download.sh --data wmt13.en-de", "data set wmt13.en-de: expected one of"),
        ("2-prepare.sh --work {0}", "is missing: run 1-download.sh"),
        ("3-search.sh --work {0}", "run 2-prepare.sh"),
        ("3-search.sh --gpus 3", "--gpus is 3, it must be 1, 2, 4 or 8"),
        ("3-search.sh --search max_s3", "there is no configs/search/max_s3.yaml"),
        ("4-derive.sh --work {0}", "run 3-search.sh"),
        ("5-select.sh --work {0}", "run 4-derive.sh"),
        (
            "6-train.sh --config tiny",
            "--config is tiny, there is no configs/train/tiny.yaml, but",
        ),
        ("6-train.sh --config transformer --genotype g.json", "--config transformer takes none"),
        ("7-tune.sh --work {0}", "run 6-train.sh"),
        ("8-test.sh --work {0}", "run 6-train.sh"),
        ("1-download.sh -- --what", "unknown option: --"),
    ],
)
def test_bad_input_is_one_line(tmp_path, command, message):
    name, *arguments = command.format(tmp_path).split()
    result = step(name, *arguments)
    assert result.returncode == 1
    assert message in result.stderr.splitlines()[-1]
