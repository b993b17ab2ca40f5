"""Steps of examples/prepare.sh: `split` raw text, `tokenise` a file, `filter` text in BPE."""

import argparse
import random
from collections.abc import Iterable, Iterator
from functools import partial
from itertools import islice, zip_longest
from multiprocessing import Pool
from pathlib import Path

from sacremoses import MosesPunctNormalizer, MosesTokenizer

Pair = tuple[str, str]

HELD_OUT = 1000  # pairs for valid and for test where the user has none, at most 5 % each
CHUNK = 1000  # lines that a worker tokenises at a time


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
        yield from align(source, target, f"{paths[0]} and {paths[1]}")


def align(source: Iterable[str], target: Iterable[str], names: str) -> Iterator[Pair]:
    """The pairs of lines, white space and other separators made single spaces.

    Raises:
        ValueError: one side has more lines; `names` says of what.
    """
    for pair in zip_longest(source, target):
        if None in pair:
            raise ValueError(f"{names} differ in their number of lines")
        yield tuple(" ".join(line.split()) for line in pair)


def write(prefix: Path, languages: list[str], pairs: Iterable[Pair]) -> int:
    """Writes both files, each of which appears whole or not at all, and returns the pairs' number.

    Raises:
        ValueError: there are none.
    """
    paths = [beside(prefix, language) for language in languages]
    partials = [beside(path, "partial") for path in paths]
    count = 0
    with (
        partials[0].open("w", encoding="utf-8") as source,
        partials[1].open("w", encoding="utf-8") as target,
    ):
        for pair in pairs:
            count += 1
            print(pair[0], file=source)
            print(pair[1], file=target)
    if not count:
        raise ValueError(f"no pairs for {prefix.name}")
    for written, path in zip(partials, paths, strict=True):
        written.replace(path)
    print(f"  {prefix.name}: {count:,} pairs", flush=True)
    return count


def split(text: str, out: Path, languages: list[str], with_valid: bool = True) -> None:
    """Writes train, valid and test of `text` into the folder `out`, without empty lines.

    `text` is a folder with train.X, valid.X, test.X or a prefix with PREFIX.X and, if the user has
    them, PREFIX.valid.X and PREFIX.test.X. Without these the last pairs are held out, and pairs of
    train that share a sentence with them are dropped. Unless `with_valid`, `text` has train and
    test only.

    Raises:
        ValueError: a file is missing or empty, or there are too few pairs to hold some out.
    """
    prefixes = {"train": text, "valid": f"{text}.valid", "test": f"{text}.test"}
    if Path(text).is_dir():
        prefixes = {name: f"{text}/{name}" for name in prefixes}
    given = [name for name, prefix in prefixes.items() if beside(prefix, languages[0]).is_file()]
    if given == [name for name in prefixes if with_valid or name != "valid"]:
        splits = {name: filter(all, read(prefixes[name], languages)) for name in given}
    elif not with_valid:
        raise ValueError(f"{text} has {' and '.join(given) or 'nothing'}; give train and test")
    elif given == ["train"] or not given:
        splits = hold_out(list(filter(all, read(prefixes["train"], languages))))
    else:
        raise ValueError(f"{text} has {' and '.join(given)}; give valid and test both, or neither")
    for name, pairs in splits.items():
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


def draw(pairs: Iterable[Pair], count: int, drawn: list[Pair], seed: int = 1) -> Iterator[Pair]:
    """All pairs but `count` random ones, which are in `drawn` at the end (reservoir sampling)."""
    generator = random.Random(seed)
    for seen, pair in enumerate(pairs):
        if seen < count:
            drawn.append(pair)
            continue
        place = generator.randrange(seen + 1)
        if place < count:
            drawn[place], pair = pair, drawn[place]
        yield pair


def tokenise(path: Path, output: Path, language: str, workers: int) -> None:
    """Moses normalisation and tokenisation, with sacremoses' default settings."""
    normalise = MosesPunctNormalizer(language).normalize
    moses = partial(MosesTokenizer(language).tokenize, return_str=True)
    count = 0
    with (
        path.open(encoding="utf-8", newline="\n") as lines,
        output.open("w", encoding="utf-8") as tokenised,
        Pool(workers, _set_pipeline, ([normalise, moses],)) as pool,
    ):
        while block := list(islice(lines, 20 * CHUNK * workers)):
            for line in pool.imap(_run_pipeline, block, CHUNK):
                print(line, file=tokenised)
            count += len(block)
            if count >= 1_000_000:
                print(f"  {path.name}: {count:,} lines", flush=True)


def _set_pipeline(functions: list) -> None:
    global _pipeline
    _pipeline = functions


def _run_pipeline(line: str) -> str:
    for function in _pipeline:
        line = function(line)
    return line


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("split", "tokenise", "filter"):
        command = commands.add_parser(name)
        command.add_argument(
            "input", help="split: prefix or folder; tokenise: file; filter: prefix"
        )
        command.add_argument(
            "output", type=Path, help="split: folder; tokenise: file; filter: prefix"
        )
        command.add_argument("languages", nargs=1 if name == "tokenise" else 2)
        if name == "split":
            command.add_argument("--without-valid", action="store_true")
        elif name == "tokenise":
            command.add_argument("--workers", type=int, default=1)
    command.add_argument("--max-tokens", type=int, default=250)
    command.add_argument("--max-ratio", type=float, default=3.0)
    command.add_argument("--held-out", type=int, default=0, help="random pairs that go to `valid`")
    args = parser.parse_args()
    try:
        if args.command == "split":
            split(args.input, args.output, args.languages, not args.without_valid)
        elif args.command == "tokenise":
            tokenise(Path(args.input), args.output, *args.languages, args.workers)
        else:
            drawn: list[Pair] = []
            pairs = short(read(args.input, args.languages), args.max_tokens, args.max_ratio)
            write(args.output, args.languages, draw(pairs, args.held_out, drawn))
            if args.held_out:
                write(args.output.with_name("valid"), args.languages, drawn)
    except UnicodeDecodeError as error:
        raise SystemExit(f"prepare.sh: {args.input} is not UTF-8: {error}") from None
    except ValueError as error:
        raise SystemExit(f"prepare.sh: {error}") from None


if __name__ == "__main__":
    main()
