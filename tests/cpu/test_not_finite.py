"""A number that is not finite stops a search, is found, and is never saved over what is finite."""

from __future__ import annotations

import re
from functools import partial

import pytest
import torch
from fairseq.criterions.label_smoothed_cross_entropy import LabelSmoothedCrossEntropyCriterion
from fairseq.trainer import Trainer
from fairseq_dartsformer.search.not_finite import Places, in_passes
from helpers.models import batch, build_darts, build_search
from helpers.running import (
    DARTS,
    SAMPLING,
    SEARCH,
    Run,
    checkpoint,
    run_workers,
    start,
    train,
    train_workers,
    training,
)
from test_resume import check_same_end
from torch import nn

from fairseq_dartsformer.operations import OPERATIONS_BY_STACK
from fairseq_dartsformer.search.snapshot import Snapshot
from fairseq_dartsformer.search_space.families import FAMILIES

LAST = 12  # updates
BUILD = {"dartsformer": build_search, "darts_transformer": build_darts}


def poison_output(module: nn.Module) -> None:
    module.register_forward_hook(lambda _, inputs, out: out * float("nan"))


def poison_gradient(module: nn.Module) -> None:
    def hook(module, inputs, out):
        if out.requires_grad:
            out = out.clone()
            out.register_hook(lambda gradient: gradient * float("inf"))
        return out

    module.register_forward_hook(hook)


def poison_alpha(encoder: nn.Module) -> None:
    with torch.no_grad():
        encoder.alpha[1, 0, 2] = float("inf")


def meddle(poison, module: str, updates: int, rank: int | None = None) -> None:
    """Poison a module before the update that follows so many, and leave it so."""
    train_step = Trainer.train_step

    def poisoned(self: Trainer, samples, *arguments, **options):
        if self.get_num_updates() == updates and rank in (None, self.data_parallel_rank):
            poison(self.get_model().get_submodule(module))
        return train_step(self, samples, *arguments, **options)

    Trainer.train_step = poisoned


def last_line(run: Run) -> str:
    return run.stderr.strip().splitlines()[-1]


def stopped(kind, data, folder, *options: str, poison=None) -> Run:
    """A training that is stopped for a number that is not finite."""
    run = start("train", training(kind, data, folder, *options), folder, prepare=poison).wait()
    assert run.status == 1
    assert last_line(run).startswith("fairseq_dartsformer.errors.NotFinite")
    return run


ENCODER = "encoder.stack.layers.0.nodes.1.2"
DECODER = [f"decoder.stack.layers.1.nodes.{branch}" for branch in ("0.3", "1.0", "2.0")]


@pytest.mark.parametrize(
    ("kind", "options", "updates", "poison", "module", "place"),
    [
        (SEARCH, "", 6, poison_output, ENCODER, "encoder layer 1 split 2, self_attention"),
        (SEARCH, "--update-freq 2", 7, poison_output, DECODER[0], "decoder layer 2 split 1, glu"),
        (SEARCH, "", 8, poison_gradient, DECODER[1], "decoder layer 2 split 2, conv_3"),
        (SEARCH, "", 5, poison_gradient, DECODER[2], "alpha of decoder layer 2 split 2"),
        (SEARCH, "", 6, poison_output, "decoder.project_out", "decoder.project_out"),
        (DARTS, "", 7, poison_output, DECODER[1], "decoder layer 2 node 2, cross_attention"),
        (SAMPLING, "", 6, poison_output, DECODER[2], "decoder layer 2 split 3, cross_attention"),
    ],
)
def test_search_goes_on_from_the_state_before(
    data, tmp_path, kind, options, updates, poison, module, place
):
    """With the bits that it would have had, once the cause is gone."""
    arguments = f"--max-update {LAST} --disable-validation {options}".split()
    run = stopped(
        kind, data, tmp_path / "bad", *arguments, poison=partial(meddle, poison, module, updates)
    )
    level = "alpha" if updates % 2 and kind is not SAMPLING else "weights"
    what = "output" if poison is poison_output else "gradient"
    line = last_line(run)
    assert f"update {updates + 1}, of {level}, stopped the search: the {what} of {place} is" in line
    assert f"the state after {updates} updates was saved as " in line
    assert checkpoint(tmp_path / "bad")["optimizer_history"][-1]["num_updates"] == updates
    train(kind, data, tmp_path / "bad", *arguments)
    train(kind, data, tmp_path / "whole", *arguments)
    check_same_end(tmp_path / "bad", tmp_path / "whole", LAST)


def report_infinite_loss(updates: int) -> None:
    """Of the update that follows so many, the gradients being as they were."""
    forward = LabelSmoothedCrossEntropyCriterion.forward

    def reported(self, model, sample, reduce=True):
        loss, sample_size, log = forward(self, model, sample, reduce)
        if model.encoder.stack.updates == updates:
            log["loss"] = log["loss"] * float("inf")
        return loss, sample_size, log

    LabelSmoothedCrossEntropyCriterion.forward = reported


def test_infinite_loss_of_finite_gradients(data, tmp_path):
    """The update has been made by then, and counts."""
    arguments = f"--max-update {LAST} --disable-validation".split()
    poison = partial(report_infinite_loss, 6)
    run = stopped(SEARCH, data, tmp_path / "bad", *arguments, poison=poison)
    line = last_line(run)
    assert "update 7, of weights, stopped the search: its loss is inf; the state after 7 " in line
    train(SEARCH, data, tmp_path / "bad", *arguments)
    train(SEARCH, data, tmp_path / "whole", *arguments)
    check_same_end(tmp_path / "bad", tmp_path / "whole", LAST)


@pytest.mark.parametrize("backend", ["legacy_ddp", "pytorch_ddp"])
def test_all_workers_stop_for_one(data, tmp_path, backend):
    arguments = f"--max-update {LAST} --disable-validation --ddp-backend {backend}".split()
    poison = partial(meddle, poison_output, ENCODER, 6, rank=1)
    runs = run_workers(SEARCH, data, tmp_path / "stopped", *arguments, prepare=poison)
    lines = [last_line(run) for run in runs]
    assert [run.status for run in runs] == [1, 1], lines
    assert all("update 7, of weights, stopped the search" in line for line in lines)
    assert "all that this worker computed is finite" in lines[0] and "was saved as" in lines[0]
    assert "the output of encoder layer 1 split 2, self_attention is not finite" in lines[1]
    train_workers(SEARCH, data, tmp_path / "stopped", *arguments)
    train_workers(SEARCH, data, tmp_path / "whole", *arguments)
    check_same_end(tmp_path / "stopped", tmp_path / "whole", LAST)


@pytest.mark.parametrize(
    ("options", "updates", "place"),
    [
        ("--arch-lr 1e39", 6, "of alpha, .* alpha of encoder layer 1 split 1, conv_3"),
        ("--lr 1e39", 5, "of weights, .* a weight of .*"),
        ("", 7, "of weights, .* alpha of encoder layer 2 split 1, self_attention"),
    ],
)
def test_poisoned_state_is_not_saved(data, tmp_path, options, updates, place):
    """By a rate that is absurd, or from outside."""
    train(SEARCH, data, tmp_path, "--max-update", "4")
    saving = f"--max-update 9 --save-interval-updates {updates}".split()
    poison = None if options else partial(meddle, poison_alpha, "encoder", 6)
    run = stopped(SEARCH, data, tmp_path, *saving, *options.split(), poison=poison)
    line = last_line(run)
    assert re.search(f"update {updates}, {place} is not finite.*; .* was left as it is", line), line
    assert [path.name for path in (tmp_path / "checkpoints").glob("checkpoint_*_*")] == []
    assert checkpoint(tmp_path)["optimizer_history"][-1]["num_updates"] == 4


def test_overflow_of_half_precision_is_no_failure(data, tmp_path):
    options = "--fp16 --fp16-init-scale 1099511627776 --max-update 4".split()
    run = train(SEARCH, data, tmp_path, *options, record=True)
    skipped = [step for step in run.steps[1:] if step.loss is None]
    assert len(skipped) > 2 and run.steps[-1].updates == 4


def test_overflow_without_end_is_one(data, tmp_path):
    poison = partial(meddle, poison_output, ENCODER, 6)
    options = "--fp16 --fp16-init-scale 8 --min-loss-scale 1 --max-update 9".split()
    run = stopped(SEARCH, data, tmp_path, *options, poison=poison)
    line = last_line(run)
    assert "Minimum loss scale" in line and "output of encoder layer 1 split 2, self_att" in line
    assert run.stdout.count("gradient overflow detected") == 2
    assert checkpoint(tmp_path)["optimizer_history"][-1]["num_updates"] == 6


def places(family: str, **options) -> Places:
    """Of a small supernet with few candidates."""
    names = ("conv_3", "self_attention", "ffn", "zero")
    operations = {f"{stack}_operations": ",".join(names) for stack in OPERATIONS_BY_STACK}
    model = BUILD[family](**operations, **options)
    alpha = {stack: getattr(model, stack).alpha for stack in OPERATIONS_BY_STACK}
    space = Snapshot(
        "", 0, None, dict.fromkeys(OPERATIONS_BY_STACK, names), alpha, family=FAMILIES[family]
    )
    return Places(model, space)


@pytest.mark.parametrize("backprop", ["reconstruct", "store"])
@pytest.mark.parametrize("poison", [poison_output, poison_gradient])
def test_every_operation_is_found(poison, backprop):
    """Of every node; the same of one that is well, which is not taken for the culprit."""
    torch.manual_seed(0)
    for family in BUILD:
        options = {"backprop": backprop} if FAMILIES[family].pooled else {}
        within = places(family, **options)
        model, net = within.model, batch([5, 3])

        def run(model=model, net=net):
            model.zero_grad()
            model(**net)[0].square().mean().backward()

        assert in_passes(within, run) is None
        branches = [
            (f"{stack}.stack.layers.{i}.nodes.{k}.{o}", branch)
            for stack in ("encoder", "decoder")
            for i, layer in enumerate(getattr(model, stack).stack.layers)
            for k, node in enumerate(layer.nodes)
            for o, branch in enumerate(node)
        ]
        names = [within.of(name) for name, _ in branches]
        assert len(set(names)) == len(names)
        what = "output" if poison is poison_output else "gradient"
        for (name, branch), place in zip(branches, names, strict=True):
            if poison is poison_gradient and not list(branch.parameters()):
                continue  # it shows in what lies below
            poison(branch)
            assert in_passes(within, run) == f"the {what} of {place}", name
            branch._forward_hooks.clear()
