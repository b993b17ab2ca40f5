"""An update moves one level alone, its parameters and its moments, whatever else is set."""

import pytest
import torch
from running import SEARCH, Step, train, train_workers

from fairseq_dartsformer.levels import ALPHA, WEIGHTS

ARCH_LR = 3e-3  # as in SEARCH


def of_level(values: dict, level: str) -> dict:
    """The entries of ``values``, which is by parameter, that belong to ``level``."""
    return {name: v for name, v in values.items() if name.endswith(".alpha") == (level == ALPHA)}


def check_levels(steps: list[Step]) -> None:
    """Levels alternate, and each update changes its own and nothing of the other."""
    assert [step.level for step in steps[1:]] == [WEIGHTS, ALPHA] * (len(steps) // 2)
    for before, after in zip(steps, steps[1:], strict=False):
        own, other = (after.level, WEIGHTS if after.level == ALPHA else ALPHA)
        for name, values in of_level(after.state, other).items():
            for kind, value in values.items():
                assert torch.equal(value, before.state[name][kind]), (after.updates, name, kind)
            gradient = after.gradients[name]
            assert gradient is None or not gradient.any(), (after.updates, name)
        for name, values in of_level(after.state, own).items():
            if after.gradients[name].any():
                assert not torch.equal(values["master"], before.state[name]["master"]), name
            assert values["step"] == (after.updates + (own == WEIGHTS)) // 2, name
    for level in (WEIGHTS, ALPHA):
        assert all(
            any(step.gradients[name].any() for step in steps[1:] if step.level == level)
            for name in of_level(steps[0].state, level)
        )


def check_learning_rates(steps: list[Step]) -> None:
    """The schedule, which counts both levels' updates, drives the weights' alone."""
    for n, step in enumerate(steps):
        assert step.updates == n
        weights = 1e-3 + n * 1e-3 if n < 4 else 5e-3 * (4 / n) ** 0.5
        assert step.lr == pytest.approx([weights, ARCH_LR], rel=1e-12, abs=0)


@pytest.mark.parametrize(
    "options",
    [
        "",
        "--update-freq 2 --clip-norm 0.1 --backprop store",
        "--fp16",
        "--fp16 --fp16-no-flatten-grads --update-freq 2 --clip-norm 0.1",
        "--bf16",
        "--amp",
    ],
)
def test_one_level_an_update(data, tmp_path, options):
    run = train(SEARCH, data, tmp_path, "--max-update", "20", *options.split(), record=True)
    check_levels(run.steps)
    check_learning_rates(run.steps)


@pytest.mark.parametrize(
    ("backend", "options"),
    [
        ("legacy_ddp", "--update-freq 2 --clip-norm 0.1"),
        ("legacy_ddp", "--fp16"),
        ("pytorch_ddp", ""),
        ("pytorch_ddp", "--fp16 --update-freq 2 --clip-norm 0.1"),
    ],
)
def test_one_level_an_update_of_several_workers(data, tmp_path, backend, options):
    arguments = ["--max-update", "12", "--ddp-backend", backend, *options.split()]
    for run in train_workers(SEARCH, data, tmp_path, *arguments, record=True):
        check_levels(run.steps)
        check_learning_rates(run.steps)


def rerun(steps: list[Step], level: str, optimizer: type, **options) -> list[dict]:
    """The level's parameters after each of its updates, had ``optimizer`` made them."""
    start = of_level(steps[0].state, level)
    parameters = {name: torch.nn.Parameter(v["master"].clone()) for name, v in start.items()}
    by_hand = optimizer(list(parameters.values()), **options)
    after = []
    for before, step in zip(steps, steps[1:], strict=False):
        if step.level != level:
            continue
        for name, parameter in parameters.items():
            parameter.grad = step.gradients[name]
        if level == WEIGHTS:
            by_hand.param_groups[0]["lr"] = before.lr[0]
        by_hand.step()
        after.append({name: p.detach().clone() for name, p in parameters.items()})
    return after


def distance(steps: list[Step], level: str, by_hand: list[dict]) -> float:
    """The largest difference between what a search and ``by_hand`` arrived at."""
    own = [step for step in steps[1:] if step.level == level]
    return max(
        (step.state[name]["master"] - value).abs().max().item()
        for step, values in zip(own, by_hand, strict=True)
        for name, value in values.items()
    )


@pytest.mark.parametrize("precision", ["", "--fp16"])
def test_adam_of_each_level(data, tmp_path, precision):
    """Alpha's decay is L2 in the gradient; the weights' is decoupled."""
    arguments = "--max-update 20 --arch-adam-betas (0.8,0.9) --adam-betas (0.7,0.95)".split()
    arguments += f"--arch-weight-decay 0.5 --weight-decay 0.3 {precision}".split()
    steps = train(SEARCH, data, tmp_path, *arguments, record=True).steps
    alpha = {"lr": ARCH_LR, "betas": (0.8, 0.9), "weight_decay": 0.5}
    weights = {"lr": 0.0, "betas": (0.7, 0.95), "weight_decay": 0.3}
    adam, decoupled = torch.optim.Adam, torch.optim.AdamW
    assert distance(steps, ALPHA, rerun(steps, ALPHA, adam, **alpha)) < 1e-6
    assert distance(steps, ALPHA, rerun(steps, ALPHA, decoupled, **alpha)) > 1e-5
    assert distance(steps, WEIGHTS, rerun(steps, WEIGHTS, decoupled, **weights)) < 1e-5
    assert distance(steps, WEIGHTS, rerun(steps, WEIGHTS, adam, **weights)) > 1e-3
