"""The split of the training data between the levels, and searches resumed on other data."""

import random
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from fairseq import tasks
from fairseq.data import Dictionary, LanguagePairDataset, ListDataset, data_utils, indexed_dataset
from helpers.running import SEARCH, checkpoint, start, train, training
from omegaconf import OmegaConf

from fairseq_dartsformer.data.data_split import DEFAULT_ARCH_FRACTION, DataSplit, pair_keys
from fairseq_dartsformer.errors import InputError
from fairseq_dartsformer.search_space.levels import ALPHA, LEVELS, WEIGHTS

CONFIG = Path(__file__).parents[2] / "configs/search/shared/darts.yaml"


def corpus(pairs: list[tuple[list[int], list[int]]]) -> LanguagePairDataset:
    columns = zip(*pairs, strict=True)
    sides = [[torch.tensor(sentence) for sentence in column] for column in columns]
    sides = [ListDataset(side, np.array([len(s) for s in side])) for side in sides]
    source, target = sides
    symbols = Dictionary()
    return LanguagePairDataset(source, source.sizes, symbols, target, target.sizes, symbols)


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


def test_keys_are_equal_for_equal_pairs():
    """A word that moves from the source to the target makes another pair."""
    pairs = [([4, 5, 2], [6, 2]), ([4], [5, 2, 6, 2]), ([4, 5, 2], [6, 2]), ([6, 2], [4, 5, 2])]
    a, b, again, swapped = pair_keys(corpus(pairs))
    assert a == again and len({a, b, swapped}) == 3


@pytest.mark.parametrize("pairs", [distinct(1), distinct(1) * 50])
def test_a_level_without_sentences_is_refused(pairs):
    with pytest.raises(InputError, match="of 1 different sentence pairs"):
        members(pairs, 0.5)


def search_task(data, epoch: int = 1, **options):
    """The task of a search with its training data."""
    options = {
        "_name": "translation_search",
        "data": str(data),
        "source_lang": "aa",
        "target_lang": "bb",
        "train_subset": "train",
        "dataset_impl": None,
        "required_seq_len_multiple": 1,
        "seed": 1,
        "update_freq": [1],
        "optimizer_name": "bilevel_adam",
        "upsample_primary": 1,
        **options,
    }
    task = tasks.setup_task(OmegaConf.create(options))
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


def with_split(data: Path, folder: Path, name: str, change) -> Path:
    """A copy of the corpus in which a split has the changed list of the pairs of `train`."""
    if not folder.exists():
        shutil.copytree(data, folder)
    sides = {
        side: data_utils.load_indexed_dataset(str(data / f"train.aa-bb.{side}"), None, "mmap")
        for side in ("aa", "bb")
    }
    indices = change(list(range(len(sides["aa"]))))
    for side, sentences in sides.items():
        prefix = str(folder / f"{name}.aa-bb.{side}")
        builder = indexed_dataset.make_builder(f"{prefix}.bin", "mmap", vocab_size=60)
        for i in indices:
            builder.add_item(sentences[i])
        builder.finalize(f"{prefix}.idx")
    return folder


@pytest.fixture(scope="module")
def corpora(data, tmp_path_factory) -> dict[str, Path]:
    """The same data, re-ordered, with another sentence, in two parts, and in two shards."""
    folder = tmp_path_factory.mktemp("corpora")
    changes = {
        "reordered": lambda order: order[::-1],
        "other": lambda order: [*order[:-1], 0],
        "shard": lambda order: order[:150],
    }
    found = {name: with_split(data, folder / name, "train", f) for name, f in changes.items()}
    parts = with_split(data, folder / "parts", "train1", lambda order: order[:40])
    return {"same": data, "parts": parts, **found}


CHANGES = [
    ("parts", {"upsample_primary": 2}, "fingerprint of the training data"),
    ("same", {"data": "reordered"}, "fingerprint of the training data"),
    ("same", {"data": "other"}, "fingerprint of the training data"),
    ("same", {"seed": 2}, "--seed = 1, now it is 2"),
    ("same", {"arch_fraction": 0.5}, "--arch-fraction = 0.4444444444444444, now it is 0.5"),
    ("same", {"arch_subset": "valid"}, "--arch-subset = None, now it is valid"),
    ("same", {}, None),
    ("same", {"arch_fraction": 2.0 / 4.5}, None),
    ("parts", {}, None),
]


@pytest.mark.parametrize("place", ["within", "between", "reset"])
@pytest.mark.parametrize(("begun", "options", "message"), CHANGES)
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


RESETS = "--reset-optimizer --reset-lr-scheduler --reset-meters --reset-dataloader"


@pytest.mark.parametrize(
    ("updates", "begun", "now", "options", "message"),
    [
        (4, "parts", "parts", "--upsample-primary 2", "fingerprint"),
        (20, "same", "reordered", "", "fingerprint"),
        (4, "same", "other", "--reset-dataloader", "fingerprint"),
        (4, "same", "same", f"{RESETS} --seed 7", "--seed = 1, now it is 7"),
    ],
)
def test_search_on_other_data_is_refused(corpora, tmp_path, updates, begun, now, options, message):
    once = ["--upsample-primary", "1"]
    train(SEARCH, corpora[begun], tmp_path, "--max-update", str(updates), *once)
    before = checkpoint(tmp_path)
    command = training(SEARCH, corpora[now], tmp_path, "--max-update", "30", *options.split())
    run = start("train", command, tmp_path / "again").wait()
    last = run.stderr.splitlines()[-1]
    assert run.status == 1 and message in last and "--finetune-from-model" in last
    assert "--reset-dataloader" not in last
    after = checkpoint(tmp_path)
    assert after["optimizer_history"] == before["optimizer_history"]
    assert torch.equal(after["model"]["encoder.alpha"], before["model"]["encoder.alpha"])


def test_new_search_from_old_weights_may_have_other_data(corpora, tmp_path):
    train(SEARCH, corpora["same"], tmp_path / "old", "--max-update", "2")
    weights = ["--finetune-from-model", str(tmp_path / "old/checkpoints/checkpoint_last.pt")]
    train(SEARCH, corpora["other"], tmp_path / "new", "--max-update", "2", "--seed", "7", *weights)
    assert checkpoint(tmp_path / "new")["optimizer_history"][-1]["num_updates"] == 2


def test_checkpoint_of_version_01_resumes_with_a_warning(data, tmp_path):
    train(SEARCH, data, tmp_path, "--max-update", "4")
    path = tmp_path / "checkpoints" / "checkpoint_last.pt"
    state = torch.load(path, weights_only=False)
    place = state["extra_state"]["train_iterator"]
    del place["data_split"]
    place["division"] = "--arch-fraction 0.444444 and --seed 1"
    torch.save(state, path)
    command = training(SEARCH, data, tmp_path, "--max-update", "6", "--seed", "7")
    run = start("train", command, tmp_path / "again").wait()
    assert run.status == 1 and "now it is --arch-fraction 0.444444 and --seed 7" in run.stderr
    run = train(SEARCH, data, tmp_path, "--max-update", "6")
    assert "version 0.1" in run.stdout + run.stderr
    assert "data_split" in checkpoint(tmp_path)["extra_state"]["train_iterator"]


def test_configuration_has_the_default_split():
    task = OmegaConf.load(CONFIG).get("task", {})
    assert task.get("arch_fraction", DEFAULT_ARCH_FRACTION) == DEFAULT_ARCH_FRACTION
    assert task.get("arch_subset") is None
