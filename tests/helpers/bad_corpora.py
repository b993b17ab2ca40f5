"""Strategies for binarised data: dictionaries that do not fit, odd sentences, damaged files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from fairseq.data import Dictionary
from fairseq.data.indexed_dataset import MMapIndexedDatasetBuilder
from hypothesis import strategies as st

from helpers.bad_inputs import damaged

SPLITS = ("train", "valid", "test")
EOS = Dictionary().eos()
SPECIAL = len(Dictionary())
WORDS = 48  # of the good data's dictionary, its special symbols among them


@st.composite
def dictionaries(draw, words: int) -> bytes:
    """A dictionary of so many words, perhaps with odd lines."""
    lines = [f"w{i} {100 - i}" for i in range(words)]
    if draw(st.integers(0, 7)):
        return "".join(f"{line}\n" for line in lines).encode()
    at = draw(st.integers(0, max(0, words - 1)))
    odd = [
        "",
        "w1",
        "w1 x",
        "w1 1",
        "w1 1 #fairseq:overwrite",
        " 1",
        "é 1",
        "<unk> 1",
        "a b c",
        "w1 1e3",
    ]
    lines.insert(at, draw(st.sampled_from(odd)))
    encoding = draw(st.sampled_from(["utf-8", "latin-1", "utf-16"]))
    text = "\n".join(lines).encode(encoding)
    return draw(damaged(text)) if text and draw(st.booleans()) else text


@st.composite
def sentences(draw, words: int, count: int) -> list[list[int]]:
    """Sentences of words by number, mostly of the dictionary, perhaps empty or long."""
    generator = np.random.default_rng(draw(st.integers(0, 99)))
    most = draw(st.sampled_from([1, 5, 5, 5, 40, 2000]))
    top = SPECIAL + words + draw(st.sampled_from([0] * 40 + [1, 30000]))
    lengths = generator.integers(0, most, count)
    found = [[*generator.integers(min(SPECIAL, top - 1), top, n).tolist(), EOS] for n in lengths]
    if found and draw(st.integers(0, 49)) == 0:
        found[0] = []
    return found


def write_split(prefix: Path, pairs: list[list[int]]) -> None:
    """Binarise sentences as `PREFIX.bin` and `PREFIX.idx`."""
    builder = MMapIndexedDatasetBuilder(f"{prefix}.bin", np.uint16)
    for sentence in pairs:
        builder.add_item(torch.tensor(sentence, dtype=torch.int64))
    builder.finalize(f"{prefix}.idx")


@st.composite
def corpora(draw, folder: Path) -> None:
    """Binarised data, written into a folder; something may be wrong with them anywhere."""
    joined = draw(st.booleans())
    sizes = st.sampled_from([0, 1, 10, 60, *[WORDS - SPECIAL] * 9])
    words = {"aa": draw(sizes)}
    words["bb"] = words["aa"] if joined else draw(sizes)
    files = {side: draw(dictionaries(words[side])) for side in words}
    for side in words:
        text = files["aa"] if joined else files[side]
        (folder / f"dict.{side}.txt").write_bytes(text)
    for split in SPLITS:
        count = draw(st.sampled_from([0, 1, 2, *[30] * 12]))
        for side in words:
            more = draw(st.sampled_from([0] * 40 + [1]))
            prefix = folder / f"{split}.aa-bb.{side}"
            write_split(prefix, draw(sentences(words[side], count + more)))
    if draw(st.integers(0, 2)) == 0:
        path = draw(st.sampled_from(sorted(folder.iterdir())))
        content = path.read_bytes()
        if content and draw(st.booleans()):
            path.write_bytes(draw(damaged(content)))
        else:
            path.unlink()
