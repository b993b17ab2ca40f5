"""Two steps of examples/prepare.sh on pairs of files: `split` raw text, `filter` tokenised text."""

import argparse
from collections.abc import Iterable, Iterator
from itertools import zip_longest
from pathlib import Path

Pair = tuple[str, str]

HELD_OUT = 1000  # pairs for valid and for test where the user has none, at most 5 % each


def beside(prefix: str | Path, language: str) -> Path:
    """`PREFIX.LANGUAGE`."""
    return Path(f"{prefix}.{language}")


def read(prefix: str | Path, languages: list[str]) -> Iterator[Pair]:
    """The aligned lines of both files, white space and other separators made single spaces.

    Raises:
        ValueError: a file is missing or the files are not equally long.
    """
    paths = [beside(prefix, language) for language in languages]
    for path in paths:
        if not path.is_file():
            raise ValueError(f"no such file: {path}")
    with (
        paths[0].open(encoding="utf-8", newline="\n") as source,
        paths[1].open(encoding="utf-8", newline="\n") as target,
    ):
        for pair in zip_longest(source, target):
            if None in pair:
                raise ValueError(f"{paths[0]} and {paths[1]} differ in their number of lines")
            yield tuple(" ".join(line.split()) for line in pair)


def write(prefix: Path, languages: list[str], pairs: Iterable[Pair]) -> None:
    """Writes both files; each appears whole or not at all."""
    paths = [beside(prefix, language) for language in languages]
    partial = [beside(path, "partial") for path in paths]
    count = 0
    with (
        partial[0].open("w", encoding="utf-8") as source,
        partial[1].open("w", encoding="utf-8") as target,
    ):
        for pair in pairs:
            count += 1
            print(pair[0], file=source)
            print(pair[1], file=target)
    for written, path in zip(partial, paths, strict=True):
        written.replace(path)
    print(f"  {prefix.name}: {count:,} pairs")


def split(text: str, out: Path, languages: list[str]) -> None:
    """Writes train, valid and test of `text` into the folder `out`, without empty lines.

    `text` is a folder with train.X, valid.X, test.X or a prefix with PREFIX.X and, if the user has
    them, PREFIX.valid.X and PREFIX.test.X. Without these the last pairs are held out, and pairs of
    train that share a sentence with them are dropped.
    """
    prefixes = {"train": text, "valid": f"{text}.valid", "test": f"{text}.test"}
    if Path(text).is_dir():
        prefixes = {name: f"{text}/{name}" for name in prefixes}
    given = [name for name, prefix in prefixes.items() if beside(prefix, languages[0]).is_file()]
    if given == ["train", "valid", "test"]:
        splits = {name: [p for p in read(prefixes[name], languages) if all(p)] for name in given}
    elif given == ["train"] or not given:
        splits = hold_out([pair for pair in read(prefixes["train"], languages) if all(pair)])
    else:
        raise ValueError(f"{text} has {' and '.join(given)}; give valid and test both, or neither")
    for name, pairs in splits.items():
        if not pairs:
            raise ValueError(f"{text}: no pairs for {name}")
        write(out / name, languages, pairs)


def hold_out(pairs: list[Pair]) -> dict[str, list[Pair]]:
    """The last pairs as valid and test; the rest, without their sentences, as train."""
    size = min(HELD_OUT, len(pairs) // 20)
    if not size:
        raise ValueError(f"{len(pairs)} pairs are too few to hold out some of them")
    train, valid, test = pairs[: -2 * size], pairs[-2 * size : -size], pairs[-size:]
    seen = {sentence for pair in valid + test for sentence in pair}
    train = [pair for pair in train if seen.isdisjoint(pair)]
    return {"train": train, "valid": valid, "test": test}


def short(pairs: Iterable[Pair], max_tokens: int, max_ratio: float) -> Iterator[Pair]:
    """The pairs of at most `max_tokens` a side whose lengths differ by a factor of `max_ratio`."""
    for pair in pairs:
        shorter, longer = sorted(len(side.split()) for side in pair)
        if longer <= max_tokens and longer <= max_ratio * shorter:
            yield pair


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("split", "filter"):
        command = commands.add_parser(name)
        command.add_argument("input", help="prefix of the files to read; split takes a folder, too")
        command.add_argument("output", type=Path, help="split: a folder; filter: a prefix")
        command.add_argument("languages", nargs=2)
    command.add_argument("--max-tokens", type=int, default=250)
    command.add_argument("--max-ratio", type=float, default=3.0)
    args = parser.parse_args()
    try:
        if args.command == "split":
            split(args.input, args.output, args.languages)
        else:
            pairs = read(args.input, args.languages)
            write(args.output, args.languages, short(pairs, args.max_tokens, args.max_ratio))
    except UnicodeDecodeError as error:
        raise SystemExit(f"prepare.sh: {args.input} is not UTF-8: {error}") from None
    except ValueError as error:
        raise SystemExit(f"prepare.sh: {error}") from None


if __name__ == "__main__":
    main()
