"""Searches on data in the older format that `fairseq-preprocess --dataset-impl` can write."""

import shutil

import pytest
import torch
from fairseq.data import data_utils, indexed_dataset
from helpers.fairseq_commands import SEARCH, TEXT_SEARCH, checkpoint, train


@pytest.fixture(scope="module")
def cached(data, tmp_path_factory):
    """The same data as `cached`: fairseq gives a sentence only after `prefetch`."""
    folder = tmp_path_factory.mktemp("cached") / "binarised"
    shutil.copytree(data, folder)
    for index in folder.glob("train*.idx"):
        file = str(index.with_suffix(""))
        sentences = data_utils.load_indexed_dataset(str(data / index.stem))
        builder = indexed_dataset.make_builder(f"{file}.bin", "cached")
        for i in range(len(sentences)):
            builder.add_item(sentences[i])
        builder.finalize(f"{file}.idx")
        assert indexed_dataset.infer_dataset_impl(file) == "cached"
    return folder


@pytest.mark.parametrize("kind", [SEARCH, TEXT_SEARCH], ids=["translation", "text"])
def test_the_format_does_not_matter(data, cached, tmp_path, kind):
    found = []
    for folder in data, cached:
        train(kind, folder, tmp_path / folder.parent.name, "--max-update", "6")
        found.append(checkpoint(tmp_path / folder.parent.name)["model"])
    for name, parameter in found[0].items():
        assert torch.equal(found[1][name], parameter), name
