"""SentencePiece for examples/prepare.sh: raw text to pieces, by a joint model of both languages.

usage: python examples/pieces.py learn MODEL VOCABULARY FILE...
       python examples/pieces.py encode MODEL FILE FILE [--workers N]

The result depends on the text and the options alone, not on the number of processes.
"""

import argparse
from collections.abc import Iterable, Iterator
from itertools import chain, islice
from pathlib import Path
from typing import TextIO

from sentencepiece import SentencePieceProcessor, SentencePieceTrainer

BLOCK = 100_000  # lines that are encoded at a time
LONGEST = 1 << 24  # bytes of a line; sentencepiece skips longer ones, by default above 4,192


def learn(lines: Iterable[str], model: Path, vocabulary: int) -> None:
    """Trains a model of BPE on raw lines and writes it atomically.

    Every character of the text is a piece, as with subword-nmt; special symbols are also pieces.

    Raises:
        ValueError: the text does not allow a vocabulary of this size.
    """
    partial = model.with_name(model.name + ".partial")
    try:
        with partial.open("wb") as file:
            SentencePieceTrainer.train(
                sentence_iterator=iter(lines),
                model_writer=file,
                model_type="bpe",
                vocab_size=vocabulary,
                character_coverage=1.0,
                max_sentence_length=LONGEST,
                minloglevel=1,
            )
    except RuntimeError as error:
        raise ValueError(f"--vocabulary is {vocabulary}: {error}") from None
    partial.replace(model)


def encode(lines: Iterable[str], output: TextIO, model: Path, workers: int = 1) -> None:
    """Writes the pieces of each line, separated by spaces."""
    processor = SentencePieceProcessor(model_file=str(model))
    lines = iter(lines)
    while block := list(islice(lines, BLOCK)):
        for pieces in processor.encode(block, out_type=str, num_threads=workers):
            print(*pieces, file=output)


def read(path: Path) -> Iterator[str]:
    """The lines of a file."""
    with path.open(encoding="utf-8", newline="\n") as file:
        yield from (line.rstrip("\n") for line in file)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser("learn", help="train a joint model")
    command.add_argument("model", type=Path)
    command.add_argument("vocabulary", type=int, help="number of pieces")
    command.add_argument("input", type=Path, nargs="+")
    command = commands.add_parser("encode", help="text to pieces")
    command.add_argument("model", type=Path)
    command.add_argument("input", type=Path)
    command.add_argument("output", type=Path)
    command.add_argument("--workers", type=int, default=1)
    args = parser.parse_args()
    try:
        if args.command == "learn":
            lines = chain.from_iterable(map(read, args.input))
            learn(lines, args.model, args.vocabulary)
        else:
            with args.output.open("w", encoding="utf-8") as output:
                encode(read(args.input), output, args.model, args.workers)
    except (OSError, ValueError) as error:
        raise SystemExit(f"pieces.py: {error}") from None


if __name__ == "__main__":
    main()
