"""examples/wmt: archives are downloaded, checked, and become aligned text."""

import gzip
import hashlib
import re
import zipfile
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from helpers.wmt_archives import corpora, make_archives, text_of, write_tar

DATASETS = ["wmt14.en-de", "wmt18.en-de", "wmt14.en-fr", "wmt18.en-cs", "wmt18-czeng17.en-cs"]


@pytest.fixture(scope="module")
def archives(tmp_path_factory) -> Path:
    """A folder with all archives and their table."""
    folder = tmp_path_factory.mktemp("archives")
    make_archives(folder)
    return folder


def test_every_data_set_is_complete():
    """Each has training text, one validation and one test set; checksums have their length."""
    lengths = {"sha256": 64, "md5": 32}
    for dataset in DATASETS:
        table = corpora.read_table(corpora.TABLE, dataset)
        kinds = [archive.kind for archive in table]
        assert kinds.count("test") == kinds.count("valid") == 1 and "lines" in kinds
        for kind, _, digest in (archive.checksum.partition(":") for archive in table):
            assert kind == "-" or re.fullmatch(rf"[0-9a-f]{{{lengths[kind]}}}", digest)
    with pytest.raises(ValueError, match=r"expected one of wmt14\.en-de"):
        corpora.read_table(corpora.TABLE, "wmt14.de-en")


@pytest.mark.parametrize("dataset", DATASETS)
def test_archives_become_aligned_text(archives, tmp_path, dataset):
    table = corpora.read_table(archives / "archives.tsv", dataset)
    foreign = dataset.rpartition("-")[2]
    corpora.extract(table, archives, tmp_path, foreign)
    excluded = {1, 7, 19} if "czeng17" in dataset else set()
    expected = {"train": [], "valid": [], "test": []}
    for archive in (archive for archive in table if archive.kind != "czeng-blocks"):
        pairs = zip(text_of(archive, "en"), text_of(archive, foreign), strict=True)
        for i, pair in enumerate(pairs):
            if all(pair) and not (archive.kind == "czeng" and i % 3 in excluded):
                split = archive.kind if archive.kind in ("valid", "test") else "train"
                expected[split].append(pair)
    for split, pairs in expected.items():
        files = (tmp_path / f"{split}.{side}" for side in ("en", foreign))
        lines = [file.read_text().splitlines() for file in files]
        assert list(zip(*lines, strict=True)) == pairs


NC, GIGA, CZENG = "training-parallel-nc-v9.tgz", "training-giga-fren.tar", "czeng10-plaintext.tar"
BLOCKS = "convert_czeng16_to_17.pl.zip"
NEWS, RELEASE = "training/news-commentary-v9.de-en.en", "giga-fren.release2.fixed.en.gz"
PART = "data.plaintext-format/00train.gz"


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-500])


def zipped(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("README", "not it")


def with_member(name: str, data: bytes) -> Callable[[Path], None]:
    return partial(write_tar, members={name: data})


@pytest.mark.parametrize(
    ("dataset", "file", "damage"),
    [
        ("wmt14.en-de", NC, cut),
        ("wmt14.en-de", NC, with_member(NEWS, b"\xff\xfe\n")),
        ("wmt14.en-fr", GIGA, with_member(RELEASE, gzip.compress(b"A.\n" * 9)[:-9])),
        ("wmt18.en-cs", CZENG, with_member(PART, gzip.compress(b"a-b1-1\t0.9\tone side\n"))),
        ("wmt18-czeng17.en-cs", BLOCKS, zipped),
    ],
)
def test_a_damaged_archive_is_named(archives, tmp_path, dataset, file, damage):
    table = corpora.read_table(archives / "archives.tsv", dataset)
    for archive in table:
        (tmp_path / archive.file).write_bytes((archives / archive.file).read_bytes())
    damage(tmp_path / file)
    with pytest.raises(ValueError, match=f"^{re.escape(str(tmp_path / file))}: ") as error:
        corpora.extract(table, tmp_path, tmp_path / "out", dataset[-2:])
    assert str(error.value).count(str(tmp_path)) == 1
    assert not list((tmp_path / "out").glob("train.??"))


def test_downloads_are_checked(archives, tmp_path, capsys):
    table = corpora.read_table(archives / "archives.tsv", "wmt18.en-cs")
    first, unchecked = table[0], next(archive for archive in table if archive.checksum == "-")
    corpora.download(unchecked, tmp_path)
    digest = hashlib.sha256((archives / unchecked.file).read_bytes()).hexdigest()
    assert f"no checksum is known; its sha256 is {digest}" in capsys.readouterr().out

    corpora.download(first, tmp_path)
    nowhere = replace(first, url="file:///nowhere")
    corpora.download(nowhere, tmp_path)  # the file exists
    file, part = tmp_path / first.file, tmp_path / f"{first.file}.part"
    file.write_bytes(bytes(reversed(file.read_bytes())))
    with pytest.raises(ValueError, match=r"has the sha256 \w+, expected \w+: remove it"):
        corpora.download(nowhere, tmp_path)
    file.rename(part)
    with pytest.raises(ValueError, match=r"has the sha256"):
        corpora.download(nowhere, tmp_path)
    part.write_bytes(b"some of it")
    with pytest.raises(ValueError, match="curl ended with status"):
        corpora.download(nowhere, tmp_path)
    assert part.read_bytes() == b"some of it"
