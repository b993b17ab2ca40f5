"""Trainings on a GPU, through fairseq's own loss scaler and autocast."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from helpers.fairseq_commands import (
    DARTS,
    DERIVED,
    EVOLVED,
    SAMPLING,
    SEARCH,
    TEXT_DERIVED,
    TEXT_SEARCH,
    checkpoint,
    prepare_data,
    training,
)

from fairseq_dartsformer.report.run import read_retraining

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
KINDS = {"search": SEARCH, "darts": DARTS, "sampling": SAMPLING}
KINDS |= {"derived": DERIVED, "evolved": EVOLVED}
KINDS |= {"text-search": TEXT_SEARCH, "text-derived": TEXT_DERIVED}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return prepare_data(tmp_path_factory.mktemp("data"))


@pytest.mark.parametrize("precision", ["", "--fp16", "--amp"])
@pytest.mark.parametrize("kind", KINDS)
def test_training(data, tmp_path, kind, precision):
    """It learns, after the overflows of a scale far too large, and alpha moves in a search."""
    states = {}
    for updates in (1, 60):
        given = [*precision.split(), *"--fp16-init-scale 1099511627776".split()]
        given += f"--max-update {updates} --save-dir {tmp_path / str(updates)}/checkpoints".split()
        arguments = [a for a in training(KINDS[kind], data, tmp_path) if a != "--cpu"]
        command = [sys.executable, "-m", "fairseq_cli.train", *arguments, *given]
        subprocess.run(command, check=True, timeout=240)
        states[updates] = checkpoint(tmp_path / str(updates))
    assert read_retraining(tmp_path / "60" / "checkpoints").on_gpu  # as it was not told
    first, last = (state["extra_state"]["best"] for state in states.values())
    assert last < first - 0.5
    model, before = states[60]["model"], states[1]["model"]
    assert all(tensor.isfinite().all() for tensor in model.values())
    for name in (n for n in model if n.endswith("alpha")):
        moved = (model[name] - before[name]).abs().max() > 1e-2
        assert moved == (kind != "sampling")
