"""Small archives of examples/wmt in their real forms, without IWSLT's."""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import sys
import tarfile
import zipfile
from pathlib import Path

from helpers.example_scripts import WMT

sys.path.insert(0, str(WMT))
import corpora


def sentences(name: str, language: str, count: int) -> list[str]:
    """Lines of an archive's corpus; in one of the languages every tenth is empty."""
    lines = [
        f"{name[:12]} {language}: tree {i % 7} & house {i % 11}, »{i % 5}«." for i in range(count)
    ]
    for i in range(3 if language == "en" else 8, count, 10):
        lines[i] = ""
    return lines


def text_of(archive: corpora.Archive, language: str) -> list[str]:
    return sentences(archive.file, language, 150 if "v9" in archive.file else 20)


def content(archive: corpora.Archive) -> dict[str, bytes]:
    """The members of an archive, for all languages of its data sets."""
    files = {"README": b"not text\n"}
    # Sorted, so that a truncated archive always lacks the same members.
    languages = set(map(corpora.foreign_of, archive.datasets.split(",")))
    for foreign in sorted(languages, reverse=True):
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
            (member,) = archive.names(foreign, language)
            files[member] = gzip.compress(data) if member.endswith(".gz") else data
    return files


def write_tar(path: Path, members: dict[str, bytes]) -> None:
    with tarfile.open(path, "w" if path.suffix == ".tar" else "w:gz") as file:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            file.addfile(info, io.BytesIO(data))


def make_archives(folder: Path) -> None:
    """Write all archives and their archives.tsv, with their sizes and checksums."""
    lines = [line for line in corpora.TABLE.read_text().splitlines() if line[0] != "#"]
    rows = csv.DictReader(lines, delimiter="\t")
    rows = [row for row in rows if not row["kind"].startswith("talks")]
    for row in rows:
        path = folder / row["file"]
        archive = corpora.Archive(**row)
        if archive.kind == "czeng-blocks":
            with zipfile.ZipFile(path, "w") as file:
                file.writestr(archive.members, "my %bad = map {($_,1)} qw{1 7\n 19};")
        else:
            write_tar(path, content(archive))
        row["url"] = path.as_uri()
        if row["checksum"] != "-":
            kind = row["checksum"].partition(":")[0]
            row["checksum"] = f"{kind}:{hashlib.new(kind, path.read_bytes()).hexdigest()}"
            row["bytes"] = str(path.stat().st_size)
    with (folder / "archives.tsv").open("w") as table:
        writer = csv.DictWriter(table, rows[0], delimiter="\t", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
