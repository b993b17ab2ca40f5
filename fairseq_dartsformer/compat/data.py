"""Reading dictionaries and binarised data, and noticing what is wrong with them."""

from __future__ import annotations

from functools import wraps
from pathlib import Path

import numpy as np
from fairseq.data import Dictionary, MMapIndexedDataset, data_utils
from fairseq.tasks import FairseqTask, translation

from ..errors import InputError, MissingSplitError
from .naming import naming


def apply() -> None:
    """Put these workarounds in place."""
    data_utils.infer_language_pair = _name_folder(data_utils.infer_language_pair)
    Dictionary.load = classmethod(_name_dictionary(Dictionary.load.__func__))
    translation.load_langpair_dataset = _join_parts(_name_split(translation.load_langpair_dataset))
    for kind in (MMapIndexedDataset, MMapIndexedDataset.Index):
        kind.__del__ = _close_opened(kind.__del__)
    data_utils.batch_by_size = _refuse_no_batch(data_utils.batch_by_size)
    FairseqTask.filter_indices_by_size = _name_long(FairseqTask.filter_indices_by_size)
    data_utils.load_indexed_dataset = _check_sentences(data_utils.load_indexed_dataset)


def _name_folder(infer):
    """Symptom: a folder without data ends in a traceback. Goes when fairseq says what it lacks."""

    @wraps(infer)
    def infer_language_pair(path):
        with naming(f"data {path}"):
            languages = infer(path)
        if None in languages:
            raise InputError(
                f"data {path}: holds no binarised split to tell --source-lang and --target-lang by"
            )
        return languages

    return infer_language_pair


def _name_dictionary(load):
    """Symptom: a dictionary that is missing or damaged ends in a traceback, not always with its
    name. Goes when fairseq says which it is."""

    @wraps(load)
    def load_dictionary(cls, f, *args, **kwargs):
        with naming(f"dictionary {f}"):
            return load(cls, f, *args, **kwargs)

    return load_dictionary


def _name_split(load):
    """Symptom: a split that is missing, or the two sides of which differ in length, ends in a
    traceback that does not name it. Goes when fairseq says which it is."""

    @wraps(load)
    def load_split(data_path, split, *args, **kwargs):
        with naming(f"split {split!r} of the data {data_path}"):
            try:
                return load(data_path, split, *args, **kwargs)
            except FileNotFoundError as error:
                raise MissingSplitError(
                    f"{data_path} has no binarised split {split!r} of these languages "
                    "(--train-subset, --valid-subset, --gen-subset, --source-lang, --target-lang)"
                ) from error

    return load_split


def _join_parts(load):
    """Symptom: ``negative dimensions are not allowed`` where a split has several parts (``train``,
    ``train1``). Cause: ``--task translation`` takes the first of them -1 times by default, other
    tasks once. Goes when its ``--upsample-primary`` is 1 by default."""

    @wraps(load)
    def load_parts(*args, **kwargs):
        if kwargs.get("upsample_primary") == -1:
            kwargs["upsample_primary"] = 1
        return load(*args, **kwargs)

    return load_parts


def _name_long(filter_indices):
    """Symptom: a sentence that is too long ends in a traceback. Goes when fairseq says that it is
    the data's or an option's fault."""

    @wraps(filter_indices)
    def filter_indices_by_size(self, indices, dataset, max_positions=None, *args, **kwargs):
        try:
            return filter_indices(self, indices, dataset, max_positions, *args, **kwargs)
        except Exception as error:
            if type(error) is not Exception:
                raise
            raise InputError(
                "a sentence is longer than --max-source-positions or --max-target-positions: "
                f"{error}"
            ) from error

    return filter_indices_by_size


def _refuse_no_batch(batch):
    """Refuse to go on without any batch.

    Symptoms: where no sentence is short enough, an index out of range; where there are a few, they
    are left out without a word, so that a training is validated on nothing, and a translation ends
    in a division by zero. Goes when fairseq says so.
    """

    @wraps(batch)
    def batch_by_size(indices, *args, required_batch_size_multiple: int = 1, **kwargs):
        multiple = required_batch_size_multiple
        try:
            batches = batch(indices, *args, required_batch_size_multiple=multiple, **kwargs)
        except IndexError as error:
            if len(indices) > 0:
                raise
            raise InputError(
                "no sentence is left: there is none, or all are longer than "
                "--max-source-positions, --max-target-positions or --max-tokens allow"
            ) from error
        if len(batches) == 0 and len(indices) > 0:
            raise InputError(
                f"{len(indices)} sentences make no batch: fairseq leaves out a last one that "
                f"--required-batch-size-multiple {multiple} does not divide"
            )
        return batches

    return batch_by_size


def _close_opened(close):
    """Symptom: ``Exception ignored in`` where a file could not be opened. Cause: fairseq closes it
    all the same. Goes when it does not."""

    @wraps(close)
    def close_opened(self) -> None:
        if hasattr(self, "_bin_buffer_mmap"):
            close(self)

    return close_opened


def _check_sentences(load):
    """Check binarised sentences against their index and their dictionary.

    Symptoms: ``cannot mmap an empty file`` where a split is empty; where a file is cut or another
    dictionary's, an index out of range when the sentence has its turn, which on a GPU ends in an
    assertion without a name. Goes when fairseq looks at what it opens.
    """

    @wraps(load)
    def load_indexed_dataset(path, dictionary=None, *args, **kwargs):
        binary = Path(f"{path}.bin")
        with naming(f"data {binary}"):
            if binary.is_file() and binary.stat().st_size == 0:
                raise InputError(f"data {binary}: is empty: it holds no sentence")
            dataset = load(path, dictionary, *args, **kwargs)
            if isinstance(dataset, MMapIndexedDataset):
                _check_tokens(dataset, binary, dictionary)
            return dataset

    return load_indexed_dataset


def _check_tokens(dataset: MMapIndexedDataset, path: Path, dictionary: Dictionary | None) -> None:
    """Refuse sentences that are not within the file, or not of the dictionary."""
    index = dataset._index
    if not np.issubdtype(index.dtype, np.integer):
        raise InputError(f"data {path}: its index (.idx) says that it holds no whole numbers")
    ends = index._pointers + index._sizes.astype(np.int64) * index.dtype().itemsize
    if len(index) == 0:
        raise InputError(f"data {path}: is empty: it holds no sentence")
    if index._sizes.min() < 1 or index._pointers.min() < 0 or ends.max() > path.stat().st_size:
        raise InputError(f"data {path}: does not hold the sentences of its index (.idx)")
    if dictionary is not None:
        tokens = np.frombuffer(dataset._bin_buffer, dtype=index.dtype)
        if tokens.min() < 0 or tokens.max() >= len(dictionary):
            raise InputError(
                f"data {path}: has a word of number {tokens.max()}, but its dictionary has "
                f"{len(dictionary)}: it was binarised by another"
            )
