"""Prepares aligned text for the architecture benchmark: short pairs, 4,000 joint merges.

usage: prepare.py --text TEXT --source-lang X --target-lang Y --out DATA

Keeps the pairs of 3 to 20 words a side, in train, valid and test alike, and hands them to
examples/prepare.sh, which tokenises, learns BPE and binarises into DATA/data-bin. A word is a token
of the Moses tokeniser; --most-words takes longer pairs too. TEXT is what examples/prepare.sh takes:
a folder with train.X, valid.X and test.X, or a prefix.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

EXAMPLES = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(EXAMPLES))
import corpus  # noqa: E402

MERGES = 4000
LEAST, MOST = 3, 20  # words a side


def short_pairs(
    raw: Iterable[corpus.Pair], tokenised: Iterable[corpus.Pair], most: int = MOST
) -> Iterator[corpus.Pair]:
    """The raw pairs whose tokenised sides both have 3 to ``most`` words."""
    for pair, sides in zip(raw, tokenised, strict=True):
        if all(LEAST <= len(side.split()) <= most for side in sides):
            yield pair


def select(text: str, out: Path, languages: list[str], workers: int, most: int = MOST) -> None:
    """Write the short pairs of train, valid and test into the folder ``out``.

    Raises:
        ValueError: a file is missing, or a split has no short pair.
    """
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent) as name:
        folder = Path(name)
        corpus.split(text, folder, languages)
        for split in ("train", "valid", "test"):
            raw, tokenised = folder / split, folder / f"{split}.tok"
            for language in languages:
                source, target = (corpus.beside(prefix, language) for prefix in (raw, tokenised))
                with (
                    source.open(encoding="utf-8", newline="\n") as lines,
                    target.open("w", encoding="utf-8") as output,
                ):
                    corpus.tokenise(lines, output, language, workers)
            sides = corpus.read(raw, languages), corpus.read(tokenised, languages)
            corpus.write(out / split, languages, short_pairs(*sides, most))


def main() -> None:
    """Select, then run examples/prepare.sh; after an interruption, go on."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for option in ("--text", "--source-lang", "--target-lang", "--out"):
        parser.add_argument(option, required=True)
    note = f"words of a side of the longest pairs (default: {MOST}, the published table's)"
    parser.add_argument("--most-words", type=int, default=MOST, metavar="N", help=note)
    parser.add_argument("--workers", type=int, default=1, help="processes (default: 1)")
    args = parser.parse_args()
    if args.most_words < LEAST:
        parser.error(f"--most-words is {args.most_words}, it must be at least {LEAST}")
    text, done = Path(args.out) / "text", Path(args.out) / "short.done"
    if not done.exists():
        try:
            languages = [args.source_lang, args.target_lang]
            select(args.text, text, languages, args.workers, args.most_words)
        except ValueError as error:
            parser.exit(1, f"prepare.py: error: {error}\n")
        done.touch()
    command = ["bash", EXAMPLES / "prepare.sh", "--text", text, "--out", args.out]
    command += ["--source-lang", args.source_lang, "--target-lang", args.target_lang]
    command += ["--merges", MERGES, "--workers", args.workers]
    sys.exit(subprocess.run(list(map(str, command)), check=False).returncode)


if __name__ == "__main__":
    main()
