"""Downloads the archives that archives.tsv lists, and extracts aligned text from them.

usage: python examples/wmt/corpora.py download DATASET --archives FOLDER
       python examples/wmt/corpora.py extract DATASET --archives FOLDER --out FOLDER

`extract` writes train, valid and test, each as `.en` and `.de` (`.fr`, `.cs`), a sentence per line,
without pairs that have an empty side. It reads archives as streams and unpacks nothing to disk.
"""

import argparse
import csv
import gzip
import hashlib
import io
import re
import subprocess
import sys
import tarfile
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from fnmatch import fnmatchcase
from functools import partial
from itertools import chain
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
import ted
from corpus import Pair, align, clean, with_text, write

TABLE = Path(__file__).with_name("archives.tsv")
SEGMENT = re.compile(r"<seg [^>]*>(.*)</seg>")
CANNOT_RESUME = 33  # curl's status if a server does not support ranges
NOTHING_BEYOND = "416"  # HTTP's status if nothing is left to send
BLOCK = re.compile(r"[^-]+-b(\d+)-")  # in CzEng's sentence identifiers

# What Python's libraries raise on reading a damaged archive.
DAMAGE = (ValueError, OSError, EOFError, KeyError, zlib.error, tarfile.TarError, zipfile.BadZipFile)


@dataclass(frozen=True)
class Archive:
    """A line of the table, fields unchanged; `-` is unknown."""

    file: str
    kind: str  # "lines", "valid", "test", "czeng", or "czeng-blocks": what CzEng 1.7 leaves out;
    # "talks": IWSLT's training text; "talks-test": its test text
    members: str
    datasets: str
    bytes: str
    checksum: str
    url: str

    def names(self, foreign: str, language: str) -> list[str]:
        """Names, or glob patterns, of a language's files in the archive."""
        side = "src" if language == "en" else "ref"
        return self.members.format(f=foreign, l=language, s=side).split(",")


def read_table(path: Path, dataset: str) -> list[Archive]:
    """The archives of a data set.

    Raises:
        ValueError: it is no such table, or has no such data set.
    """
    lines = [line for line in path.read_text().splitlines() if not line.startswith("#")]
    header, *rows = list(filter(None, csv.reader(lines, delimiter="\t"))) or [[]]
    columns = [field.name for field in fields(Archive)]
    if header != columns or any(len(row) != len(columns) for row in rows):
        raise ValueError(f"{path}: expected the columns {', '.join(columns)}, with tabs between")
    table = [Archive(*row) for row in rows]
    names = dict.fromkeys(name for archive in table for name in archive.datasets.split(","))
    if dataset not in names:
        raise ValueError(f"data set {dataset}: expected one of {', '.join(names)}")
    return [archive for archive in table if dataset in archive.datasets.split(",")]


def download(archive: Archive, folder: Path) -> None:
    """Downloads a missing archive; resumes an interrupted download.

    Raises:
        ValueError: the download fails, or size or checksum differ from the table's.
    """
    path, part = folder / archive.file, folder / f"{archive.file}.part"
    if not path.exists():
        if not (part.exists() and str(part.stat().st_size) == archive.bytes):
            print(f"{archive.url}", flush=True)
            status = fetch(archive.url, part)
            if status:
                raise ValueError(
                    f"{archive.file}: curl ended with status {status}; the same command resumes "
                    f"it, or put the file into {folder} (README.md: CzEng, mirrors)"
                )
        check(archive, part)
        part.rename(path)
    else:
        check(archive, path)


def fetch(url: str, part: Path) -> int:
    """Resumes a download at the end of `part`; restarts it if the server does not support that.

    Returns:
        curl's status, 0 if `part` is complete.
    """
    curl = "curl --fail --location --retry 5 --netrc-optional --continue-at -".split()
    curl += ["--write-out", "%{http_code}", "--output", str(part), url]
    ended = subprocess.run(curl, stdout=subprocess.PIPE, text=True)
    if ended.returncode == CANNOT_RESUME and part.exists():
        part.unlink()
        ended = subprocess.run(curl, stdout=subprocess.PIPE, text=True)
    return 0 if ended.stdout == NOTHING_BEYOND else ended.returncode


def check(archive: Archive, path: Path) -> None:
    """Compares size and checksum with the table's; prints the sha256 if the table has none.

    Raises:
        ValueError: they differ.
    """
    size = str(path.stat().st_size)
    if archive.bytes not in ("-", size):
        raise ValueError(f"{path}: has {size} bytes, expected {archive.bytes}: remove it")
    kind, _, expected = archive.checksum.partition(":")
    digest = hashlib.new("sha256" if kind == "-" else kind)
    with path.open("rb") as file:
        for block in iter(partial(file.read, 1 << 20), b""):
            digest.update(block)
    found = digest.hexdigest()
    if kind == "-":
        print(f"{archive.file}: not checked, no checksum is known; its sha256 is {found}")
    elif found != expected:
        raise ValueError(f"{path}: has the {kind} {found}, expected {expected}: remove it")
    else:
        print(f"{archive.file}: {kind} is right", flush=True)


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Adds the archive's name to errors on reading a damaged one, in one line."""
    try:
        yield
    except DAMAGE as error:
        raise ValueError(f"{path}: {' '.join(str(error).split())}") from None


def lines_of(path: Path, pattern: str) -> Iterator[str]:
    """The lines of all matching members of a tar archive; decompresses `.gz` members.

    Raises:
        ValueError: no member matches.
    """
    found = False
    with tarfile.open(path) as archive:
        for member in archive:
            name = member.name.removeprefix("./")
            if fnmatchcase(name, pattern) and (stream := archive.extractfile(member)):
                found = True
                if name.endswith(".gz"):
                    stream = gzip.GzipFile(fileobj=stream)
                yield from io.TextIOWrapper(stream, encoding="utf-8", newline="\n")
                if name == pattern:
                    return  # no pattern, so no other member
    if not found:
        raise ValueError(f"has no file {pattern}")


def pairs_of(archive: Archive, path: Path, foreign: str, without: set[str]) -> Iterator[Pair]:
    """The pairs of an archive, English first; of CzEng, those of no block in `without`.

    Raises:
        ValueError: the archive does not have the expected form.
    """
    with reading(path):
        if archive.kind == "czeng":
            for line in filter(str.strip, lines_of(path, archive.members)):
                columns = line.split("\t")
                if len(columns) != 4:
                    raise ValueError(
                        f"a line has {len(columns)} columns, expected 4: {line[:80]!r}"
                    )
                identifier, _, czech, english = columns
                block = BLOCK.match(identifier)
                if not (block and block[1] in without):
                    yield clean(english), clean(czech)
            return
        sides = (
            chain.from_iterable(lines_of(path, name) for name in archive.names(foreign, language))
            for language in ("en", foreign)
        )
        if archive.kind == "talks":
            sides = map(ted.talks, sides)
        elif archive.kind != "lines":
            sides = (
                (match[1] for match in map(SEGMENT.search, lines) if match is not None)
                for lines in sides
            )
        if archive.kind == "talks-test":
            sides = ((line.replace("’", "'") for line in lines) for lines in sides)
        yield from align(*sides, "its sides")


def left_out(path: Path, member: str) -> set[str]:
    """The blocks of CzEng 1.6 that its authors' script excludes from CzEng 1.7.

    Raises:
        ValueError: the archive does not have the expected form.
    """
    with reading(path), zipfile.ZipFile(path) as archive:
        script = archive.read(member).decode("utf-8", "replace")
    blocks = re.search(r"qw\{([\s\d]*)\}", script)
    if not blocks:
        raise ValueError(f"{path}: {member} has no list of blocks")
    return set(blocks[1].split())


def counted(pairs: Iterable[Pair], name: str) -> Iterator[Pair]:
    """The pairs without empty sides; prints their number."""
    count = 0
    for count, pair in enumerate(with_text(pairs, name), 1):
        yield pair
        if count % 1_000_000 == 0:
            print(f"  {name}: {count:,} pairs so far", flush=True)
    print(f"  {name}: {count:,} pairs", flush=True)


def foreign_of(dataset: str) -> str:
    """The language of a data set that is not English."""
    return next(name for name in dataset.rpartition(".")[2].split("-") if name != "en")


def extract(
    archives: list[Archive], folder: Path, out: Path, foreign: str, workers: int = 1
) -> None:
    """Writes train, valid and test of a data set; `workers` processes tokenise TED talks.

    Raises:
        ValueError: an archive is missing or does not have the expected form.
    """
    for archive in archives:
        if not (folder / archive.file).exists():
            raise ValueError(f"{folder / archive.file} is missing: run 1-download.sh")
    out.mkdir(parents=True, exist_ok=True)
    without: set[str] = set()
    for archive in archives:
        if archive.kind == "czeng-blocks":
            without = left_out(folder / archive.file, archive.members)

    def pairs(*kinds: str) -> Iterator[Pair]:
        for archive in archives:
            if archive.kind in kinds:
                found = pairs_of(archive, folder / archive.file, foreign, without)
                yield from counted(found, archive.file)

    languages = ["en", foreign]
    write(out / "test", languages, pairs("test", "talks-test"))
    if any(archive.kind == "talks" for archive in archives):
        train, valid = ted.select(pairs("talks"), languages, workers)
    else:
        train, valid = pairs("lines", "czeng"), pairs("valid")
    write(out / "valid", languages, valid)
    write(out / "train", languages, train)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("command", choices=["download", "extract"])
    parser.add_argument("dataset")
    parser.add_argument("--archives", type=Path, required=True, help="folder of the archives")
    parser.add_argument("--out", type=Path, help="folder for the text")
    parser.add_argument("--table", type=Path, default=TABLE, help="default: archives.tsv")
    parser.add_argument("--workers", type=int, default=1, help="processes (default: 1)")
    args = parser.parse_args()
    try:
        archives = read_table(args.table, args.dataset)
        if args.command == "download":
            args.archives.mkdir(parents=True, exist_ok=True)
            for archive in {archive.file: archive for archive in archives}.values():
                download(archive, args.archives)
        else:
            foreign = foreign_of(args.dataset)
            extract(archives, args.archives, args.out, foreign, args.workers)
    except (ValueError, OSError) as error:
        raise SystemExit(f"corpora.py: {error}") from None


if __name__ == "__main__":
    main()
