"""Damage in binarised data, which fairseq does not notice until it reads the sentence."""

import re
from pathlib import Path

from fairseq.data.indexed_dataset import infer_dataset_impl, make_dataset

from ..errors import InputError


def check_binarised(
    folder: str, split: str, source: str, target: str, combine: bool = False
) -> None:
    """Read the last sentence of both sides of a split, if there is such a split.

    Args:
        folder: output of ``fairseq-preprocess``.
        split: name of the split.
        source, target: the languages.
        combine: also check further parts, such as ``train1``.

    Raises:
        InputError: a file is missing, empty or cut short.
    """
    pair, number = f"{source}-{target}|{target}-{source}", "[0-9]*" if combine else ""
    name = re.compile(
        rf"({re.escape(split)}{number}\.(?:{pair})\.)(?:{source}|{target})\.(?:bin|idx)"
    )
    found = {match[1] for path in Path(folder).glob("*") if (match := name.fullmatch(path.name))}
    for path in (str(Path(folder, start + end)) for start in found for end in (source, target)):
        try:
            if Path(f"{path}.bin").stat().st_size == 0:
                raise EOFError("no sentence")
            kind = infer_dataset_impl(path)
            dataset = make_dataset(path, "lazy" if kind == "cached" else kind)
            if dataset is None:
                raise FileNotFoundError("no index")
            dataset[len(dataset) - 1]
        except Exception as error:  # there are many kinds
            reason = getattr(error, "strerror", None) or error
            raise InputError(
                f"{path}.bin and .idx cannot be read ({reason}): they are missing, empty or cut "
                "short"
            ) from error
