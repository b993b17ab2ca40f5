"""Damage in binarised data, which fairseq does not notice until it reads the sentence."""

import re
from collections.abc import Sequence
from pathlib import Path

from fairseq.data import FairseqDataset
from fairseq.data.indexed_dataset import infer_dataset_impl, make_dataset

from ..errors import InputError


def prefetch_all(dataset: FairseqDataset) -> None:
    """Have every sentence read, if the format of the data gives them only after that."""
    if dataset.supports_prefetch:
        dataset.prefetch(range(len(dataset)))


def check_binarised(
    folder: str, split: str, languages: Sequence[str] = (), combine: bool = False
) -> None:
    """Read the last sentence of both sides of a split, or of a text, if there is such a split.

    Args:
        folder: output of ``fairseq-preprocess``.
        split: name of the split.
        languages: source and target; none for a text.
        combine: also check further parts, such as ``train1``.

    Raises:
        InputError: a file is missing, empty or cut short.
    """
    start, ends = re.escape(split) + "[0-9]*" * combine, [""]
    if languages:
        source, target = languages
        start += rf"\.(?:{source}-{target}|{target}-{source})"
        ends = [f".{source}", f".{target}"]
    name = re.compile(rf"({start})(?:{'|'.join(map(re.escape, ends))})\.(?:bin|idx)")
    found = {match[1] for path in Path(folder).glob("*") if (match := name.fullmatch(path.name))}
    for path in (str(Path(folder, start + end)) for start in found for end in ends):
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
