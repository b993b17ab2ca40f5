"""Text for fairseq, as examples/prepare.sh prepares it.

usage: python examples/corpus.py split TEXT FOLDER X Y
       python examples/corpus.py tokenise FILE FILE X      (- for standard input and output)
       python examples/corpus.py filter PREFIX PREFIX X Y
"""

import argparse
import random
import re
import sys
from collections.abc import Iterable, Iterator
from functools import partial
from itertools import islice, zip_longest
from multiprocessing import Pool
from pathlib import Path
from typing import TextIO

from sacremoses import MosesPunctNormalizer, MosesTokenizer

Pair = tuple[str, str]

HELD_OUT = 1000  # pairs held out for valid and for test, at most 5 % each
CHUNK = 1000  # lines that a worker tokenises at a time
# Control characters that are not white space, and byte-order marks.
INVISIBLE = re.compile("[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\ufeff]")


def beside(prefix: str | Path, language: str) -> Path:
    """`PREFIX.LANGUAGE`."""
    return Path(f"{prefix}.{language}")


def file_name(language: str) -> str:
    """The language in the names of prepared files: fairseq reads `pt-BR` there as two languages."""
    return language.replace("-", "_")


def clean(line: str) -> str:
    """Removes byte-order marks and control characters; white space becomes single spaces."""
    return " ".join(INVISIBLE.sub("", line).split())


def read(prefix: str | Path, languages: list[str]) -> Iterator[Pair]:
    """The aligned, cleaned lines of both files.

    Raises:
        ValueError: a file is missing or not UTF-8, or the files are not equally long.
    """
    paths = [beside(prefix, language) for language in languages]
    for path in paths:
        if not path.is_file():
            raise ValueError(f"no such file: {path}")
    yield from align(*map(lines, paths), f"{paths[0]} and {paths[1]}")


def lines(source: Path | str) -> Iterator[str]:
    """The lines of a file, or of standard input for "-".

    Raises:
        ValueError: one is not UTF-8; names file and line.
    """
    with open(0 if source == "-" else source, "rb") as file:
        for number, line in enumerate(file, 1):
            try:
                yield line.decode()
            except UnicodeDecodeError as error:
                raise ValueError(f"{source}:{number}: not UTF-8: {error}") from None


def align(source: Iterable[str], target: Iterable[str], names: str) -> Iterator[Pair]:
    """The pairs of cleaned lines.

    Raises:
        ValueError: one side, which `names` names, has more lines.
    """
    for pair in zip_longest(source, target):
        if None in pair:
            raise ValueError(f"{names} differ in their number of lines")
        yield tuple(map(clean, pair))


def with_text(pairs: Iterable[Pair], name: str) -> Iterator[Pair]:
    """The pairs that have text on both sides; prints how many have not."""
    dropped = 0
    for pair in pairs:
        if all(pair):
            yield pair
        else:
            dropped += 1
    if dropped:
        print(f"  {name}: {dropped:,} pairs without text on a side are dropped", flush=True)


def write(prefix: Path, languages: list[str], pairs: Iterable[Pair]) -> int:
    """Writes both files and returns the number of pairs; an interruption leaves no partial file.

    Raises:
        ValueError: there are no pairs.
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

    `text` is a folder with train.X, valid.X and test.X, or a prefix: PREFIX.X with, if there are
    any, PREFIX.valid.X and PREFIX.test.X. Without these the last pairs are held out, and pairs of
    train that share a sentence with them are dropped. With `with_valid=False`, `text` has train
    and test only.

    Raises:
        ValueError: a file is missing or empty, or there are too few pairs to hold some out.
    """
    prefixes = {"train": text, "valid": f"{text}.valid", "test": f"{text}.test"}
    if Path(text).is_dir():
        prefixes = {name: f"{text}/{name}" for name in prefixes}

    def pairs(name: str) -> Iterator[Pair]:
        return with_text(read(prefixes[name], languages), name)

    given = [name for name, prefix in prefixes.items() if beside(prefix, languages[0]).is_file()]
    if given == [name for name in prefixes if with_valid or name != "valid"]:
        splits = {name: pairs(name) for name in given}
    elif not with_valid:
        raise ValueError(f"{text} has {' and '.join(given) or 'nothing'}; give train and test")
    elif given == ["train"] or not given:
        splits = hold_out(list(pairs("train")))
    else:
        raise ValueError(f"{text} has {' and '.join(given)}; give valid and test both, or neither")
    for name, members in splits.items():
        write(out / name, list(map(file_name, languages)), members)


def hold_out(pairs: list[Pair]) -> dict[str, list[Pair]]:
    """The last pairs as valid and test; the others, without their sentences, as train."""
    size = min(HELD_OUT, len(pairs) // 20)
    if not size:
        raise ValueError(f"{len(pairs)} pairs are too few to hold out some of them")
    train, valid, test = pairs[: -2 * size], pairs[-2 * size : -size], pairs[-size:]
    seen = {sentence for pair in valid + test for sentence in pair}
    train = [pair for pair in train if seen.isdisjoint(pair)]
    return {"train": train, "valid": valid, "test": test}


def short(pairs: Iterable[Pair], max_tokens: int, max_ratio: float) -> Iterator[Pair]:
    """The pairs of at most `max_tokens` a side whose lengths differ by at most `max_ratio`."""
    for pair in pairs:
        shorter, longer = sorted(len(side.split()) for side in pair)
        if 0 < longer <= max_tokens and longer <= max_ratio * shorter:
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


def tokenised(
    lines: Iterable[str],
    language: str,
    workers: int = 1,
    normalise: bool = True,
    lower_case: bool = False,
) -> Iterator[str]:
    """Cleaned lines after Moses normalisation and tokenisation, with sacremoses' default settings.

    Args:
        lines: one sentence each.
        language: its rules are applied.
        workers: processes.
        normalise: whether punctuation is normalised.
        lower_case: whether the tokens become lower-case.
    """
    base = re.split("[-_]", language)[0]  # Moses has rules for pt, not for pt-BR
    pipeline = [clean, partial(MosesTokenizer(base).tokenize, return_str=True)]
    if normalise:
        pipeline.insert(1, MosesPunctNormalizer(base).normalize)
    if lower_case:
        pipeline.append(str.lower)
    lines, count = iter(lines), 0
    with Pool(workers, _set_pipeline, (pipeline,)) as pool:
        while block := list(islice(lines, 20 * CHUNK * workers)):
            yield from pool.imap(_run_pipeline, block, CHUNK)
            count += len(block)
            if count >= 1_000_000:
                print(f"  {count:,} lines", file=sys.stderr, flush=True)


def tokenise(
    lines: Iterable[str], output: TextIO, language: str, workers: int = 1, **options: bool
) -> None:
    """Prints the lines that :func:`tokenised` yields."""
    for line in tokenised(lines, language, workers, **options):
        print(line, file=output)


def _set_pipeline(functions: list) -> None:
    global _pipeline
    _pipeline = functions


def _run_pipeline(line: str) -> str:
    for function in _pipeline:
        line = function(line)
    return line


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser("split", help="train, valid and test of raw text")
    command.add_argument("input", help="prefix or folder")
    command.add_argument("output", type=Path, help="folder")
    command.add_argument("languages", nargs=2)
    command.add_argument("--without-valid", action="store_true")
    command = commands.add_parser("tokenise", help="Moses normalisation and tokenisation")
    command.add_argument("input", help="file, or - for standard input")
    command.add_argument("output", help="file, or - for standard output")
    command.add_argument("language")
    command.add_argument("--workers", type=int, default=1)
    command.add_argument("--normalise", choices=["yes", "no"], default="yes")
    command.add_argument("--lower-case", choices=["yes", "no"], default="no")
    command = commands.add_parser("filter", help="drop long pairs of text in BPE")
    command.add_argument("input", help="prefix")
    command.add_argument("output", type=Path, help="prefix")
    command.add_argument("languages", nargs=2)
    command.add_argument("--max-tokens", type=int, default=250)
    command.add_argument("--max-ratio", type=float, default=3.0)
    command.add_argument("--held-out", type=int, default=0, help="random pairs that go to `valid`")
    args = parser.parse_args()
    try:
        if args.command == "split":
            split(args.input, args.output, args.languages, not args.without_valid)
        elif args.command == "tokenise":
            target = 1 if args.output == "-" else args.output
            with open(target, "w", encoding="utf-8") as output:
                cases = {"normalise": args.normalise, "lower_case": args.lower_case}
                given = {name: value == "yes" for name, value in cases.items()}
                tokenise(lines(args.input), output, args.language, args.workers, **given)
        else:
            drawn: list[Pair] = []
            pairs = short(read(args.input, args.languages), args.max_tokens, args.max_ratio)
            write(args.output, args.languages, draw(pairs, args.held_out, drawn))
            if args.held_out:
                write(args.output.with_name("valid"), args.languages, drawn)
    except (OSError, ValueError) as error:
        raise SystemExit(f"corpus.py: {error}") from None


if __name__ == "__main__":
    main()
