"""An update moves one level alone, its parameters and its moments, whatever else is set."""

import itertools

import pytest
import torch
from helpers.fairseq_commands import SEARCH, train, train_workers
from helpers.models import batch, build_search, multiplications
from helpers.training_steps import Step

from fairseq_dartsformer.search_space.levels import ALPHA, WEIGHTS, gradients_for

ARCH_LR = 3e-3  # as in SEARCH


def check_levels(steps: list[Step]) -> None:
    """Levels alternate, and each update changes its own and nothing of the other."""
    assert [step.level for step in steps[1:]] == [WEIGHTS, ALPHA] * (len(steps) // 2)
    for before, after in itertools.pairwise(steps):
        own, other = (after.level, WEIGHTS if after.level == ALPHA else ALPHA)
        assert not after.state[other].pop("gradient").any()
        for name, value in after.state[other].items():
            assert torch.equal(value, before.state[other][name]), (after.updates, name)
        assert (after.state[own]["step"] == (after.updates + (own == WEIGHTS)) // 2).all()
        moving = after.state[own]["gradient"] != 0
        moved = after.state[own]["master"] != before.state[own]["master"]
        assert moving.float().mean() > 0.5
        assert moved[moving].float().mean() > 0.99


def check_learning_rates(steps: list[Step]) -> None:
    """The schedule, which counts both levels' updates, drives the weights' alone."""
    for n, step in enumerate(steps):
        assert step.updates == n
        weights = 1e-3 + n * 1e-3 if n < 4 else 5e-3 * (4 / n) ** 0.5
        assert step.lr == pytest.approx([weights, ARCH_LR], rel=1e-12, abs=0)


@pytest.mark.parametrize(
    ("workers", "options"),
    [
        (1, "--update-freq 2 --clip-norm 0.1 --backprop store"),
        (1, "--fp16 --update-freq 2 --clip-norm 0.1"),
        (1, "--fp16 --fp16-no-flatten-grads"),
        (1, "--amp"),
        (2, "--ddp-backend legacy_ddp --update-freq 2 --clip-norm 0.1"),
        (2, "--ddp-backend pytorch_ddp --fp16 --update-freq 2 --clip-norm 0.1"),
    ],
)
def test_one_level_an_update(data, tmp_path, workers, options):
    arguments = ["--max-update", "8", "--disable-validation", "--no-save", *options.split()]
    if workers == 1:
        runs = [train(SEARCH, data, tmp_path, *arguments, record=True)]
    else:
        runs = train_workers(SEARCH, data, tmp_path, *arguments, record=True)
    for run in runs:
        check_levels(run.steps)
        check_learning_rates(run.steps)


def distance(steps: list[Step], level: str, adam: type, **options) -> float:
    """How far from the level's parameters ``adam`` would have been at most, on its gradients."""
    by_hand = torch.nn.Parameter(steps[0].state[level]["master"].clone())
    optimizer = adam([by_hand], **options)
    farthest = 0.0
    for before, after in itertools.pairwise(steps):
        if after.level == level:
            by_hand.grad = after.state[level]["gradient"]
            if level == WEIGHTS:
                optimizer.param_groups[0]["lr"] = before.lr[0]
            optimizer.step()
            difference = by_hand.detach() - after.state[level]["master"]
            farthest = max(farthest, difference.abs().max().item())
    return farthest


@pytest.mark.parametrize("precision", ["", "--fp16"])
def test_adam_of_each_level(data, tmp_path, precision):
    """Alpha's decay is L2 in the gradient; the weights' is decoupled."""
    arguments = "--max-update 20 --arch-adam-betas (0.8,0.9) --adam-betas (0.7,0.95)".split()
    arguments += f"--arch-weight-decay 0.5 --weight-decay 0.3 --no-save {precision}".split()
    steps = train(SEARCH, data, tmp_path, *arguments, record=True).steps
    alpha = {"lr": ARCH_LR, "betas": (0.8, 0.9), "weight_decay": 0.5}
    weights = {"lr": 0.0, "betas": (0.7, 0.95), "weight_decay": 0.3}
    assert distance(steps, ALPHA, torch.optim.Adam, **alpha) < 1e-6
    assert distance(steps, ALPHA, torch.optim.AdamW, **alpha) > 1e-5
    assert distance(steps, WEIGHTS, torch.optim.AdamW, **weights) < 1e-5
    assert distance(steps, WEIGHTS, torch.optim.Adam, **weights) > 1e-3


def test_schedule_of_torch_leaves_the_rate_of_alpha(data, tmp_path):
    """It drives all of the optimizer's groups, at the end of every epoch of 4 updates."""
    schedule = "--lr-scheduler reduce_lr_on_plateau --lr-patience 0 --lr-threshold 9"
    arguments = f"--max-update 16 --update-freq 5 {schedule} --lr-shrink 0.5".split()
    steps = train(SEARCH, data, tmp_path, *arguments, record=True).steps[-8:]
    assert [step.lr for step in steps] == [
        [r, ARCH_LR] for r in (2.5e-3, 1.25e-3) for _ in range(4)
    ]


@pytest.mark.parametrize("backprop", ["reconstruct", "store"])
def test_arithmetic_of_one_level(backprop):
    """An update computes, in addition to the forward pass, the gradients of inputs, those of
    weights only in the weights' update, and the forward pass again if it reconstructs. Convolutions
    multiply inside one function, where they are not counted."""
    operations = "dynamic_conv_3,self_attention,glu,ffn,zero,identity"
    sizes = {"encoder_layers": 8, "decoder_layers": 8, "hidden_dim": 48}
    sizes |= {"encoder_operations": operations, "decoder_operations": operations}
    model, net = build_search(backprop=backprop, **sizes), batch([9, 9, 9])

    def update() -> None:
        model(**net)[0].sum().backward()

    with torch.no_grad():
        forward = multiplications(lambda: model(**net))
    again = backprop == "reconstruct"
    for level, passes in ((WEIGHTS, 3 + again), (ALPHA, 2 + again)):
        with gradients_for(model, [level]):
            assert multiplications(update) / forward == pytest.approx(passes, abs=0.1)
