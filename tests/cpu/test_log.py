"""What a training shows of the search, and of the reconstruction, while it runs."""

import logging
import math

import pytest
import torch
from helpers.fairseq_commands import DERIVED, SEARCH, train
from helpers.logs import LOGGING, lines, scalars
from helpers.models import batch, build_search


def test_search(data, tmp_path):
    run = train(SEARCH, data, tmp_path, *LOGGING, "--tensorboard-logdir", str(tmp_path / "tb"))
    log, shown = lines(run.stdout), scalars(tmp_path / "tb")
    assert [line["num_updates"] for line in log] == [4, 8, 12]
    for line in log:
        # the mean over both levels' updates, which have about as many words
        low, high = sorted((line["loss_weights"], line["loss_alpha"]))
        assert low < line["loss"] < high
        assert 0 < line["alpha_entropy"] <= math.log(5) + 1e-4
    for name in ("loss", "loss_weights", "loss_alpha", "alpha_entropy"):
        # The last may not have been written out: a process of a test ends abruptly.
        assert shown[name][:2] == pytest.approx([line[name] for line in log[:2]], abs=1e-3)


@pytest.mark.parametrize(
    ("kind", "precision"),
    [(SEARCH, ""), (SEARCH, "--fp16"), (SEARCH, "--amp"), (DERIVED, "--bf16")],
    ids=["search", "search fp16", "search amp", "derived bf16"],
)
def test_reconstruction_is_checked(data, tmp_path, kind, precision):
    options = ["--check-reconstruction", "6", "--backprop", "reconstruct", *precision.split()]
    run = train(kind, data, tmp_path, *LOGGING, *options)
    for name in ("reconstruction_error_encoder", "reconstruction_error_decoder"):
        errors = [line.get(name) for line in lines(run.stdout)]
        assert errors[0] <= 1e-6 and errors[1] <= 1e-6  # of updates 0 and 6
    assert "reconstructed with" not in run.stdout


def test_drift_is_warned_of(caplog):
    """An operation that gives another result each time cannot be undone."""
    torch.manual_seed(0)
    model = build_search(check_reconstruction=5)
    for stack in (model.encoder.stack, model.decoder.stack):
        branch = stack.layers[0].nodes[0][0]
        branch.register_forward_hook(lambda module, inputs, out: out + next(noise))
    for updates, warned in ((0, True), (1, True), (2, False), (10, True)):
        noise = iter([1.0, 1.0, 0.0, 0.0])
        caplog.clear()
        model.set_num_updates(updates)
        with caplog.at_level(logging.WARNING):
            model(**batch([5, 3]))[0].sum().backward()
        assert [record.message.split(" ")[1] for record in caplog.records] == (
            ["decoder's", "encoder's"] if warned else []
        )
        assert all("Use --backprop store" in record.message for record in caplog.records)
