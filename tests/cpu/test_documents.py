"""A text is divided between the levels by documents, whatever windows it is cut into."""

import random
import shutil

import numpy as np
import pytest
import torch
from fairseq import tasks
from fairseq.data import (
    Dictionary,
    ListDataset,
    MonolingualDataset,
    TokenBlockDataset,
    data_utils,
    indexed_dataset,
)
from helpers.fairseq_commands import TEXT_SEARCH, refused
from omegaconf import OmegaConf

from fairseq_dartsformer.data import DataSplit, DocumentDataset
from fairseq_dartsformer.data.documents import documents_of
from fairseq_dartsformer.errors import InputError
from fairseq_dartsformer.search_space.levels import ALPHA, LEVELS, WEIGHTS

EOS, WINDOW = 2, 8
MODES = ("none", "complete", "complete_doc", "eos")
Documents = list[list[list[int]]]  # documents of lines of words


def text(documents: Documents, mode: str = "none", blank: int = 1) -> DocumentDataset:
    """Windows of documents with so many blank lines after each."""
    lines = [[*line, EOS] for document in documents for line in [*document, *[[]] * blank]]
    tensors = [torch.tensor(line) for line in lines]
    dataset = ListDataset(tensors, np.array([len(line) for line in lines]))
    blocks = {"block_size": WINDOW, "pad": 1, "eos": EOS, "break_mode": mode}
    blocks["include_targets"] = True
    windows = TokenBlockDataset(dataset, dataset.sizes, **blocks)
    words = Dictionary()
    windows = MonolingualDataset(windows, windows.sizes, words, shuffle=True, targets=["future"])
    return DocumentDataset(windows, **blocks)


def numbered(count: int) -> Documents:
    """Each word is its document's number."""
    source = random.Random(count)
    return [
        [[100 + i] * source.randint(1, 12) for _ in range(source.randint(1, 5))]
        for i in range(count)
    ]


def words(dataset) -> list[int]:
    """The words that a level's windows predict."""
    found = torch.cat([dataset[i]["target"] for i in range(len(dataset))]).tolist()
    return sorted(word for word in found if word >= 100)


@pytest.mark.parametrize(
    ("mode", "blank", "fraction"),
    [
        *((mode, blank, f) for mode in MODES for blank, f in ((1, 0.5), (3, 0.2))),
        # For fairseq's complete_doc, a text without blank lines is one document.
        *((mode, 0, 0.8) for mode in MODES if mode != "complete_doc"),
    ],
)
def test_no_document_is_on_both_levels(mode, blank, fraction):
    """And every word is on one; without blank lines, a line is a document."""
    documents = numbered(30)
    if blank == 0:
        documents = [[line] for line in {tuple(line) for d in documents for line in d}]
    train = text(documents, mode, blank)
    divided = DataSplit(fraction, 1).divide(train, None)
    found = {level: words(part) for level, part in divided.levels.items()}
    assert sorted(found[ALPHA] + found[WEIGHTS]) == words(train)
    if blank:
        assert not set(found[ALPHA]) & set(found[WEIGHTS])
        share = len(set(found[ALPHA])) / len(documents)
    else:
        lines = sum(len(line) for document in documents for line in document)
        share = len(found[ALPHA]) / lines
    assert share == pytest.approx(fraction, abs=0 if blank else 0.15)
    for level, part in divided.levels.items():
        assert all(part[i]["level"] == level for i in range(len(part)))
        if mode != "eos":
            assert max(part.sizes) <= max(WINDOW, 13)


def test_copies_of_a_document_are_on_one_level():
    """Whatever blank lines follow them."""
    documents = random.Random(1).choices(numbered(20), k=80)
    divided = DataSplit(0.5, 1).divide(text(documents, blank=2), None)
    found = {level: set(words(part)) for level, part in divided.levels.items()}
    assert found[ALPHA] and found[WEIGHTS] and not found[ALPHA] & found[WEIGHTS]
    once, again = (text([[[100], [101]]], blank=b).keys() for b in (1, 2))
    assert once == again


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ([3, 2, 4], [0, 1, 2]),
        ([3, 1, 2, 4], [0, 0, 1, 1]),
        ([1, 1, 3, 2, 1, 1, 4, 1], [0, 0, 0, 0, 0, 0, 1, 1]),
        ([1, 1], [0, 0]),
    ],
)
def test_blank_lines_separate_documents(sizes, expected):
    assert documents_of(np.array(sizes)).tolist() == expected


def test_a_level_without_documents_is_refused():
    with pytest.raises(InputError, match="of 1 different documents gives"):
        DataSplit(0.5, 1).divide(text([[[100], [101]]]), None)


def test_random_seeds_and_fingerprints():
    documents, found = numbered(40), {}
    for seed in (1, 2):
        divided = DataSplit(0.5, seed).divide(text(documents), None)
        found[seed] = words(divided.levels[ALPHA])
        assert divided.fingerprint == DataSplit(0.5, 1).divide(text(documents), None).fingerprint
    assert found[1] != found[2]
    other = DataSplit(0.5, 1).divide(text(documents[::-1]), None)
    assert other.fingerprint != divided.fingerprint


OPTIONS = {"_name": "language_modeling_search", "optimizer_name": "bilevel_adam", "seed": 1}
OPTIONS |= {"train_subset": "train", "dataset_impl": None, "update_freq": [1], "batch_size": None}
OPTIONS |= {"batch_size_valid": None, "data_buffer_size": 0, "tpu": False, "plasma_path": ""}
OPTIONS |= {"use_plasma_view": False, "tokens_per_sample": WINDOW}


def search_task(data, epoch: int = 1, **options):
    """The task of a search with its training data."""
    task = tasks.setup_task(OmegaConf.create(OPTIONS | {"data": str(data)} | options))
    task.load_dataset("train", epoch=epoch, combine=True)
    return task


@pytest.mark.parametrize("options", [{}, {"arch_subset": "test"}, {"sample_break_mode": "eos"}])
def test_batches_of_the_task(data, options):
    """Every batch has windows of one level."""
    task = search_task(data, **options)
    dataset, seen = task.dataset("train"), {level: [] for level in LEVELS}
    batches = task.get_batch_iterator(dataset, max_tokens=100, seed=1)
    for batch in batches.next_epoch_itr():
        assert batch["target"].numel() <= 100
        seen[batch["level"]] += batch["id"].tolist()
    assert sorted(seen[WEIGHTS]) == list(range(len(dataset.levels[WEIGHTS])))
    assert set(seen[ALPHA]) <= set(range(len(dataset.levels[ALPHA])))


def test_each_shard_is_divided(data, tmp_path):
    """fairseq trains on one shard an epoch; alpha's split is the first one's."""
    shard = tmp_path / "shard"
    shutil.copytree(data, shard)
    lines = data_utils.load_indexed_dataset(str(data / "train"))
    builder = indexed_dataset.make_builder(str(shard / "train.bin"), "mmap", vocab_size=60)
    for i in range(200):
        builder.add_item(lines[i])
    builder.finalize(str(shard / "train.idx"))
    for path in shard.glob("test.*"):
        path.unlink()
    for options in ({}, {"arch_subset": "test"}):
        tasks = [search_task(f"{data}:{shard}", epoch, **options) for epoch in (1, 2)]
        first, second = (len(task.dataset("train").levels[WEIGHTS]) for task in tasks)
        assert second < first
    alphas = [len(task.dataset("train").levels[ALPHA]) for task in tasks]
    assert alphas[0] == alphas[1]
    iterators = [
        task.get_batch_iterator(task.dataset("train"), max_tokens=100, seed=1, epoch=epoch)
        for epoch, task in enumerate(tasks, 1)
    ]
    assert [len(iterator.split) for iterator in iterators] == [4, 4]


def test_damaged_text_is_refused(data, tmp_path):
    damaged = tmp_path / "damaged"
    shutil.copytree(data, damaged)
    binarised = damaged / "train.bin"
    binarised.write_bytes(binarised.read_bytes()[:-50])
    refused(TEXT_SEARCH, damaged, tmp_path, pattern="train.bin and .idx cannot be read")
