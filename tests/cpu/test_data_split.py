"""The split of the training data between the levels, and searches resumed on other data."""

import random
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from fairseq import tasks
from fairseq.data import Dictionary, LanguagePairDataset, ListDataset, data_utils, indexed_dataset
from helpers.attempts import attempt, contents
from helpers.fairseq_commands import SEARCH, checkpoint, raw_checkpoint, train, training
from omegaconf import OmegaConf

from fairseq_dartsformer.data.data_split import DEFAULT_ARCH_FRACTION, DataSplit, pair_keys
from fairseq_dartsformer.errors import InputError
from fairseq_dartsformer.search_space.levels import ALPHA, LEVELS, WEIGHTS


def corpus(pairs: list[tuple[list[int], list[int]]]) -> LanguagePairDataset:
    sides = [[torch.tensor(sentence) for sentence in side] for side in zip(*pairs, strict=True)]
    source, target = (ListDataset(side, np.array([len(s) for s in side])) for side in sides)
    words = Dictionary()
    return LanguagePairDataset(source, source.sizes, words, target, target.sizes, words)


def distinct(count: int) -> list[tuple[list[int], list[int]]]:
    return [([4 + i, 2], [4 + i // 2, 4 + i, 2]) for i in range(count)]


def members(pairs, fraction: float = DEFAULT_ARCH_FRACTION, seed: int = 1) -> dict[str, list[int]]:
    found = DataSplit(fraction, seed).divide(corpus(pairs), None).members
    return {level: indices.tolist() for level, indices in found.items()}


@pytest.mark.parametrize("seed", [1, 7])
@pytest.mark.parametrize(("count", "fraction"), [(2, 0.5), (45, 2 / 4.5), (300, 0.1), (301, 0.99)])
def test_without_copies_the_split_is_that_of_version_01(count, fraction, seed):
    with data_utils.numpy_seed(seed):
        order = np.random.permutation(count)
    of_alpha = round(fraction * count)
    expected = {ALPHA: sorted(order[:of_alpha]), WEIGHTS: sorted(order[of_alpha:])}
    assert members(distinct(count), fraction, seed) == expected


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("fraction", [0.1, 0.5, 0.9])
def test_all_copies_of_a_pair_are_on_one_level(fraction, seed):
    pairs = random.Random(seed).choices(distinct(100), k=400)
    found = members(pairs, fraction, seed)
    assert sorted(found[WEIGHTS] + found[ALPHA]) == list(range(400))
    texts = {level: {str(pairs[i]) for i in indices} for level, indices in found.items()}
    assert texts[WEIGHTS] and texts[ALPHA] and not texts[WEIGHTS] & texts[ALPHA]


def test_a_word_that_moves_from_the_source_to_the_target_makes_another_pair():
    a, b, again, swapped = pair_keys(
        corpus([([4, 5], [6]), ([4], [5, 6]), ([4, 5], [6]), ([6], [4, 5])])
    )
    assert a == again and len({a, b, swapped}) == 3


@pytest.mark.parametrize("pairs", [distinct(1), distinct(1) * 50])
def test_a_level_without_sentences_is_refused(pairs):
    with pytest.raises(InputError, match="of 1 different sentence pairs"):
        members(pairs, 0.5)


OPTIONS = {"source_lang": "aa", "target_lang": "bb", "train_subset": "train", "dataset_impl": None}
OPTIONS |= {"required_seq_len_multiple": 1, "seed": 1, "update_freq": [1], "upsample_primary": 1}


def search_task(data, epoch: int = 1, **options):
    """The task of a search with its training data."""
    given = {"_name": "translation_search", "optimizer_name": "bilevel_adam", "data": str(data)}
    task = tasks.setup_task(OmegaConf.create({**OPTIONS, **given, **options}))
    task.load_dataset("train", epoch=epoch, combine=True)
    return task


def iterator(task, epoch: int = 1, **options):
    options = {"max_sentences": 16, "seed": 1, "epoch": epoch, **options}
    return task.get_batch_iterator(task.dataset("train"), **options)


@pytest.mark.parametrize("options", [{}, {"arch_subset": "test"}])
@pytest.mark.parametrize("multiple", [1, 8])
def test_batches_of_the_task(data, options, multiple):
    """Every batch has sentences of one level, and the size is within the limits."""
    task = search_task(data, **options)
    dataset = task.dataset("train")
    sizes = {"max_tokens": 100, "max_sentences": 20, "required_batch_size_multiple": multiple}
    seen = {level: [] for level in LEVELS}
    for batch in iterator(task, **sizes).next_epoch_itr():
        level, ids = batch["level"], batch["id"].tolist()
        assert set(ids) <= set(dataset.members[level])
        assert len(ids) <= 20 and len(ids) % multiple == 0
        seen[level] += ids
    # fairseq leaves out a last batch that the multiple does not divide.
    assert len(seen[WEIGHTS]) > len(dataset.members[WEIGHTS]) - multiple
    assert len(set(seen[WEIGHTS])) == len(seen[WEIGHTS])
    assert set(seen[ALPHA]) <= set(dataset.members[ALPHA])
    assert (len(dataset.members[WEIGHTS]) == 300) == ("arch_subset" in options)


@pytest.fixture(scope="module")
def corpora(data, tmp_path_factory) -> dict[str, Path]:
    """The same data, re-ordered, with another sentence, as a shard, and in two parts."""
    changes = {
        "reordered": ("train", [*range(300)][::-1]),
        "other": ("train", [*range(299), 0]),
        "shard": ("train", range(150)),
        "parts": ("train1", range(40)),
    }
    found = {"same": data}
    for name, (split, indices) in changes.items():
        found[name] = tmp_path_factory.mktemp("corpora") / name
        shutil.copytree(data, found[name])
        for side in ("aa", "bb"):
            sentences = data_utils.load_indexed_dataset(str(data / f"train.aa-bb.{side}"))
            file = str(found[name] / f"{split}.aa-bb.{side}")
            builder = indexed_dataset.make_builder(f"{file}.bin", "mmap", vocab_size=60)
            for i in indices:
                builder.add_item(sentences[i])
            builder.finalize(f"{file}.idx")
    return found


@pytest.mark.parametrize("place", ["within", "between", "reset"])
@pytest.mark.parametrize(
    ("begun", "options", "message"),
    [
        ("parts", {"upsample_primary": 2}, "fingerprint of the training data"),
        ("same", {"data": "reordered"}, "fingerprint of the training data"),
        ("same", {"data": "other"}, "fingerprint of the training data"),
        ("same", {"seed": 2}, "--seed = 1, now it is 2"),
        ("same", {"arch_fraction": 0.5}, "--arch-fraction = 0.4444444444444444, now it is 0.5"),
        ("same", {"arch_subset": "valid"}, "--arch-subset = None, now it is valid"),
        ("same", {"arch_fraction": 2.0 / 4.5}, None),
        ("parts", {}, None),
    ],
)
def test_iterator_checks_data_and_split(corpora, begun, options, message, place):
    run = iterator(search_task(corpora[begun]))
    batches = run.next_epoch_itr()
    for _ in range(3 if place == "within" else len(batches)):
        next(batches)
    state, options = run.state_dict(), {"data": begun, **options}
    resumed = iterator(search_task(**{**options, "data": corpora[options["data"]]}))
    load = resumed.check_data if place == "reset" else resumed.load_state_dict
    if message is None:
        return load(state)
    with pytest.raises(InputError, match=message) as error:
        load(state)
    assert "--reset-dataloader" not in str(error.value)


def test_shards_are_checked_one_by_one(corpora):
    """A search of several shards resumes at any of them, and knows all that it has seen."""
    shards = f"{corpora['same']}:{corpora['shard']}"
    task = search_task(shards)
    run = iterator(task)
    for _ in run.next_epoch_itr():
        pass
    state = run.state_dict()
    task.load_dataset("train", epoch=2, combine=True)
    resumed = iterator(search_task(shards, epoch=2), epoch=2)
    resumed.load_state_dict(state)
    assert len(iterator(task, epoch=2).split) == len(resumed.split) == 3 + 2
    other = iterator(search_task(f"{corpora['other']}:{corpora['shard']}"))
    with pytest.raises(InputError, match=r"shard 1"):
        other.check_data({"data_split": resumed.split})


@pytest.fixture(scope="module")
def search(corpora, tmp_path_factory) -> Path:
    """The folder of a search of four updates."""
    folder = tmp_path_factory.mktemp("search")
    train(SEARCH, corpora["same"], folder, *"--max-update 4 --disable-validation".split())
    return folder


RESETS = "--reset-optimizer --reset-lr-scheduler --reset-meters --reset-dataloader"


@pytest.mark.parametrize(
    ("now", "options", "message"),
    [
        ("reordered", "", "fingerprint"),
        ("other", "--reset-dataloader", "fingerprint"),
        ("same", f"{RESETS} --seed 7", "--seed = 1, now it is 7"),
    ],
)
def test_search_on_other_data_is_refused(corpora, search, now, options, message):
    before = contents(search)
    command = training(SEARCH, corpora[now], search, "--max-update", "30", *options.split())
    line = attempt("train", *command).line
    assert message in line and "--finetune-from-model" in line
    assert "--reset-dataloader" not in line
    assert contents(search) == before


def test_checkpoint_of_version_01_resumes_with_a_warning(data, search, tmp_path):
    state = raw_checkpoint(search)
    place = state["extra_state"]["train_iterator"]
    del place["data_split"]
    place["division"] = "--arch-fraction 0.444444 and --seed 1"
    torch.save(state, tmp_path / "old.pt")
    old = ["--restore-file", str(tmp_path / "old.pt"), "--max-update", "6"]
    line = attempt("train", *training(SEARCH, data, tmp_path / "no", *old, "--seed", "7")).line
    assert "now it is --arch-fraction 0.444444 and --seed 7" in line
    run = train(SEARCH, data, tmp_path, *old)
    assert "version 0.1" in run.stdout + run.stderr
    assert "data_split" in checkpoint(tmp_path)["extra_state"]["train_iterator"]
