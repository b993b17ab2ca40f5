"""Pairs of TED talks, selected as fairseq's prepare-iwslt14.sh selects them for IWSLT'14."""

import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
from corpus import Pair, short, tokenised

OMITTED = ("<url>", "<talkid>", "<keywords>")
TAG = re.compile("</?(?:title|description)>")
MAX_WORDS = 175  # Moses tokens a side
MAX_RATIO = 1.5
VALID = 23  # one pair in so many is for validation


def talks(lines: Iterable[str]) -> Iterator[str]:
    """Sentences, titles and descriptions, without their tags."""
    for line in lines:
        if not any(tag in line for tag in OMITTED):
            yield TAG.sub("", line)


def select(
    pairs: Iterable[Pair], languages: list[str], workers: int
) -> tuple[list[Pair], list[Pair]]:
    """Training and validation pairs: those of comparable length; every 23rd is for validation.

    Args:
        pairs: raw text; lengths are counted in Moses tokens.
        languages: of the two sides.
        workers: processes.
    """
    pairs = list(pairs)
    sides = [
        list(tokenised(side, language, workers, normalise=False))
        for side, language in zip(zip(*pairs, strict=True), languages, strict=True)
    ]
    words = zip(*sides, strict=True)
    train = [p for p, w in zip(pairs, words, strict=True) if any(short([w], MAX_WORDS, MAX_RATIO))]
    valid = train[VALID - 1 :: VALID]
    del train[VALID - 1 :: VALID]
    return train, valid
