import logging
import warnings
from pathlib import Path

import helpers.warm_up  # noqa: F401
import pytest
import torch
from helpers.fairseq_commands import LOGGED, SEARCH, prepare_data, start_server, train
from helpers.plugins import EXTENDING
from hypothesis import settings

warnings.filterwarnings("ignore", message=".*pin_memory.*")

logging.getLogger("matplotlib").setLevel(logging.WARNING)  # fairseq turns on its debug notes

torch.set_num_threads(1)  # the tensors are small

# Examples for tests by hypothesis: the same in every run, or many (--hypothesis-profile long).
settings.register_profile("suite", deadline=None, database=None, derandomize=True, max_examples=25)
settings.register_profile("long", deadline=None, max_examples=500)
settings.load_profile("suite")


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("DARTSformer", "the operation that test_operation.py tests")
    group.addoption("--user-dir", default=EXTENDING, metavar="FOLDER", help="its plugin")
    group.addoption("--operation", default="average", metavar="NAME", help="its name")


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small binarised corpus; the server that runs fairseq's commands has started."""
    start_server()
    return prepare_data(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="session")
def logged_search(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished search: checkpoints, TensorBoard events, log in `stdout`."""
    folder = tmp_path_factory.mktemp("search")
    events = str(folder / "checkpoints" / "tensorboard")
    train(SEARCH, data, folder, *LOGGED, "--log-format", "simple", "--tensorboard-logdir", events)
    return folder
