import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
from running import fork_server, prepare_data

warnings.filterwarnings("ignore", message=".*pin_memory.*")


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A small binarised corpus, and processes to run fairseq on it."""
    with fork_server():
        yield prepare_data(tmp_path_factory.mktemp("data"))
