"""Checkpoints of version 0.1 load, evaluate, generate, derive and resume as they did then."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path

import pytest
import torch
from helpers.old_checkpoints import (
    Moments,
    evaluation_loss,
    hypotheses,
    key,
    read,
    restored_moments,
    resume,
    run_command,
    unpack,
)

FIXTURES = Path(__file__).parents[1] / "fixtures" / "version_0_1"
DATA = FIXTURES / "data-bin"
EXPECTED = json.loads((FIXTURES / "expected.json").read_text())
SEARCHES = [kind for kind, expected in EXPECTED.items() if "genotype" in expected]

# fairseq's, of hydra and torch
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")


@pytest.fixture
def checkpoint(kind: str, tmp_path: Path) -> Path:
    """The unpacked checkpoint of a kind."""
    torch.set_num_threads(1)
    return unpack(FIXTURES / f"{kind}.pt.xz", tmp_path / "checkpoint_last.pt")


@pytest.mark.parametrize("kind", EXPECTED)
def test_evaluation_loss(kind, checkpoint):
    assert evaluation_loss(checkpoint, DATA) == pytest.approx(
        EXPECTED[kind]["evaluation_loss"], rel=1e-6
    )


@pytest.mark.parametrize("kind", EXPECTED)
def test_generation(kind, checkpoint, tmp_path):
    assert hypotheses(checkpoint, DATA, tmp_path) == EXPECTED[kind]["hypotheses"]


@pytest.mark.parametrize("kind", SEARCHES)
def test_derivation(kind, checkpoint, tmp_path):
    output = tmp_path / "genotype.json"
    run_command("fairseq_dartsformer.cli.derive", str(checkpoint), "-o", str(output))
    assert json.loads(output.read_text()) == EXPECTED[kind]["genotype"]


@pytest.mark.parametrize("kind", EXPECTED)
def test_resuming(kind, checkpoint, tmp_path):
    """Batches, their levels, the learning rate and the moments carry on.

    A search by sampling is compared for one update: whether operations that were not drawn move is
    not a property of the checkpoint.
    """
    expected = EXPECTED[kind]
    last = expected["updates"] + 2
    state, losses = resume(expected["arguments"], checkpoint, DATA, tmp_path / "resumed", last)
    assert state["optimizer_history"][-1]["num_updates"] == last
    compared = 1 if kind == "sampling" else 2
    tolerance = 1e-3 if "--fp16" in expected["arguments"] else 1e-5
    assert len(losses) == 2
    assert losses[:compared] == pytest.approx(expected["resumed_losses"][:compared], rel=tolerance)


@pytest.mark.parametrize("kind", EXPECTED)
def test_moments_are_of_the_same_parameters(kind, checkpoint):
    """Values identify the parameters, as names and order may change."""
    expected: Moments = defaultdict(list)
    weights = read(checkpoint)["model"]
    for name, pair in EXPECTED[kind]["moments"].items():
        expected[key(weights[name])].append(tuple(pair))
    found = restored_moments(checkpoint, DATA)
    assert found.keys() == expected.keys()
    for values, pairs in expected.items():
        for pair, other in zip(sorted(pairs), found[values], strict=True):
            assert pair == pytest.approx(other, rel=1e-9, abs=1e-15)
