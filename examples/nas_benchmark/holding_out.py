"""Holds out a part of the training text, for selection without the text that judges."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace

from fairseq.data import Dictionary, data_utils, indexed_dataset

from fairseq_dartsformer.data.data_split import pair_keys


def hold_out(
    data: Path,
    out: Path,
    languages: tuple[str, str],
    pairs: int | None = None,
    splits: tuple[str, ...] = ("train", "valid"),
) -> None:
    """Divide the training pairs into a folder of binarised data: some are its `valid`, the rest its
    `train`.

    The hash of a pair decides, so that all copies of a pair are on one side. The folder is complete
    or missing, also after a kill.

    Args:
        data: binarised, with the splits `train` and `valid`.
        out: the folder to write.
        languages: source and target.
        pairs: about how many are held out, by default as many as the `valid` of ``data`` has.
        splits: those to write.
    """
    pair = "-".join(languages)
    train, valid = (
        [
            data_utils.load_indexed_dataset(str(data / f"{split}.{pair}.{language}"))
            for language in languages
        ]
        for split in ("train", "valid")
    )
    keys = pair_keys(SimpleNamespace(src=train[0], tgt=train[1]))
    held = keys % max(2, len(keys) // (pairs or len(valid[0]))) == 0
    partial = out.with_name(f"{out.name}.tmp")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    for language, sentences in zip(languages, train, strict=True):
        dictionary = shutil.copy(data / f"dict.{language}.txt", partial)
        size = len(Dictionary.load(str(dictionary)))
        for split in splits:
            prefix = str(partial / f"{split}.{pair}.{language}")
            builder = indexed_dataset.make_builder(f"{prefix}.bin", "mmap", size)
            for i in (held if split == "valid" else ~held).nonzero()[0]:
                builder.add_item(sentences[i])
            builder.finalize(f"{prefix}.idx")
    partial.replace(out)
