"""`--stop-eigenvalue`: the curvature of alpha's loss."""

import pytest
import torch

from fairseq_dartsformer.memory.planner import Training, training_config
from fairseq_dartsformer.search.alpha_strategy import loss_of
from fairseq_dartsformer.search_space.sampling import searched_stacks


def eigenvalue(strategy: str, update: int, seed: int) -> float:
    """Of the same supernet and batch."""
    options = "--encoder-operations conv_3,ffn,zero --decoder-operations glu,zero,ffn --cpu "
    options += "--encoder-layers 2 --decoder-layers 2 --max-tokens 100 --max-update 9 "
    options += f"--seed {seed} --search-strategy {strategy}"
    torch.manual_seed(1)
    training = Training(training_config("dartsformer_search_tiny", options.split()), 50)
    for coder in searched_stacks(training.model).values():
        torch.nn.init.normal_(coder.alpha)
    training.task.strategy.loss = loss_of(training.criterion)
    torch.manual_seed(1)
    batch = training.batch(None, 3, 6)
    return training.task.strategy.sharpness(training.model.double(), batch, update)


def test_samples_leave_no_noise_in_it():
    """Neither the update nor the seed changes it, and it is that of `darts` for all softmaxes."""
    expected = eigenvalue("darts", 1, 1)
    assert expected != 0
    for strategy in ("gdas", "unas", "idarts"):
        assert eigenvalue(strategy, 2, 3) == pytest.approx(expected, rel=1e-9)
    assert eigenvalue("drnas", 1, 1) == eigenvalue("drnas", 2, 3) != expected
