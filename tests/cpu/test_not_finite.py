"""A number that is not finite stops a search and is never saved over finite ones."""

import re
from functools import partial

import pytest
from fairseq.criterions.label_smoothed_cross_entropy import LabelSmoothedCrossEntropyCriterion
from fairseq.trainer import Trainer
from helpers.fairseq_commands import SAMPLING, SEARCH, train, training
from helpers.kill_and_resume import launch
from torch import nn

from fairseq_dartsformer.fairseq_patches import load_checkpoint

ATTENTION = "encoder.stack.layers.0.nodes.1.2"


def poison_output(module: nn.Module) -> None:
    module.register_forward_hook(lambda _, inputs, out: out * float("nan"))


def poison_loss(module: nn.Module) -> None:
    """Change only the loss that is reported, not the gradients."""
    forward = LabelSmoothedCrossEntropyCriterion.forward

    def infinite(self, model, sample, reduce=True):
        loss, sample_size, log = forward(self, model, sample, reduce)
        return loss, sample_size, {**log, "loss": log["loss"] * float("inf")}

    LabelSmoothedCrossEntropyCriterion.forward = infinite


def meddle(poison, module: str, updates: int, rank: int) -> None:
    """Poison a module on one worker after so many updates."""
    train_step = Trainer.train_step

    def poisoned(self: Trainer, *arguments, **options):
        if self.get_num_updates() == updates and self.data_parallel_rank == rank:
            poison(self.get_model().get_submodule(module))
        return train_step(self, *arguments, **options)

    Trainer.train_step = poisoned


@pytest.mark.parametrize(
    ("kind", "options", "workers", "poison", "module", "line"),
    [
        (SEARCH, "", 1, poison_loss, "", "NotFiniteError: the loss of an update is inf"),
        (SEARCH, "--arch-lr 1e39", 1, None, "", "NotFiniteError: encoder.alpha is not finite"),
        (SEARCH, "--update-freq 2", 1, poison_output, ATTENTION, "gradients are Nan/Inf"),
        (SAMPLING, "", 1, poison_output, "decoder.project_out", "gradients are Nan/Inf"),
        (SEARCH, "", 2, poison_output, ATTENTION, "gradients are Nan/Inf"),
    ],
)
def test_search_stops_and_its_checkpoints_are_finite(
    data, tmp_path, kind, options, workers, poison, module, line
):
    common = ["--disable-validation", *options.split()[: 2 * options.startswith("--update")]]
    train(kind, data, tmp_path, "--max-update", "2", *common)
    saving = ["--max-update", "8", "--save-interval-updates", "1", "--reset-dataloader"]
    prepare = poison and partial(meddle, poison, module, 4, workers - 1)
    command = training(kind, data, tmp_path, *saving, *common, *options.split())
    runs = launch(command, tmp_path / "again", workers, prepare=prepare)
    assert [run.wait().status for run in runs] == [1] * workers
    for run in runs:
        assert re.search(line, run.stderr), run.stderr
        assert "StopIteration" not in run.stderr
        assert ("Traceback" in run.stderr) == ("NotFinite" not in line)
    if poison is poison_output:
        # fairseq names the module, on the worker that has it.
        assert f"NaN detected in output of {module}" in runs[-1].stdout
    # What was saved until then is finite.
    for path in (tmp_path / "checkpoints").glob("checkpoint_*.pt"):
        for name, value in load_checkpoint(str(path))["model"].items():
            assert value.isfinite().all(), (path, name)


def test_overflow_of_half_precision_is_no_failure(data, tmp_path):
    options = "--fp16 --fp16-init-scale 1099511627776 --max-update 4".split()
    run = train(SEARCH, data, tmp_path, *options, record=True)
    skipped = [step for step in run.steps[1:] if step.loss is None]
    assert len(skipped) > 2 and run.steps[-1].updates == 4
