"""Training data in two parts, ``train`` and ``train1``, which fairseq joins."""

import shutil

import pytest
from fairseq import options as fairseq_options
from fairseq import tasks
from fairseq.dataclass.utils import convert_namespace_to_omegaconf
from helpers.fairseq_commands import DERIVED, training


@pytest.fixture(scope="module")
def parts(data, tmp_path_factory):
    """The small corpus, its validation split being a second part of the training data, too."""
    folder = tmp_path_factory.mktemp("parts") / "data"
    shutil.copytree(data, folder)
    for path in data.glob("valid.*"):
        shutil.copy(path, folder / path.name.replace("valid", "train1"))
    return folder


def sizes(data, folder, *given: str) -> list[int]:
    """Of the data that a task trains on, and of its first part."""
    parser = fairseq_options.get_training_parser()
    args = fairseq_options.parse_args_and_arch(parser, training(DERIVED, data, folder, *given))
    task = tasks.setup_task(convert_namespace_to_omegaconf(args).task)
    found = []
    for combine in (True, False):
        task.load_dataset(args.train_subset, combine=combine)
        found.append(len(task.dataset(args.train_subset)))
    return found


@pytest.mark.parametrize("times", [1, 3])
def test_all_parts_are_there(data, parts, tmp_path, times):
    (both, one), (other, _) = sizes(data, tmp_path), sizes(data, tmp_path, "--train-subset=valid")
    assert both == one
    given = ["--upsample-primary", str(times)]
    assert sizes(parts, tmp_path, *given) == [times * one + other, one]
