"""Strategies of a plugin: options, levels, state and errors."""

from functools import partial
from itertools import pairwise
from signal import SIGKILL

import pytest
import torch
from helpers.fairseq_commands import (
    SAMPLING,
    SEARCH,
    SUPERNET,
    checkpoint,
    run_workers,
    start,
    train,
    train_workers,
    training,
)
from helpers.models import build_search
from helpers.plugins import EXTENDING, TRIAL, derived, registered

from fairseq_dartsformer.errors import InputError
from fairseq_dartsformer.memory.planner import Training, training_config
from fairseq_dartsformer.search.darts import Darts
from fairseq_dartsformer.search.registry import register_strategy
from fairseq_dartsformer.search.strategy import SearchStrategy
from fairseq_dartsformer.search.uniform_sampling import UniformSampling
from fairseq_dartsformer.search.worker_agreement import compare_alpha
from fairseq_dartsformer.search_space.genotype import Genotype
from fairseq_dartsformer.search_space.levels import ALPHA, LEVELS, WEIGHTS


@pytest.fixture(scope="module", autouse=True)
def plugin():
    with registered(EXTENDING) as module:
        yield module


def test_strategy_moves_the_level_that_it_names(data, tmp_path):
    options = "--alpha-every 3 --search-strategy every_kth --task every_kth_search --fp16".split()
    run = train(SEARCH, data, tmp_path, *options, *TRIAL, record=True)
    assert [step.level for step in run.steps[1:]] == [WEIGHTS, WEIGHTS, ALPHA] * 2
    for before, after in pairwise(run.steps):
        for level in LEVELS:
            unmoved = torch.equal(before.state[level]["master"], after.state[level]["master"])
            assert unmoved == (level != after.level)
    assert len(Genotype.load(derived(tmp_path)).encoder) == 2


def planned(options: str) -> Training:
    """The training that ``dartsformer-memory`` plans for the options."""
    arch = "dartsformer_search_tiny"
    small = "--encoder-layers 2 --decoder-layers 2 --cpu --max-tokens 100".split()
    return Training(training_config(arch, [*small, *options.split()]), 50)


def test_strategys_options_leave_the_others_alone():
    for options, name in [
        ("--search-strategy single_level", "single_level"),
        ("--search-strategy every_kth --task every_kth_search", "every_kth"),
        ("--task every_kth_search", "darts"),
    ]:
        assert planned(options).task.strategy.name == name


EVERY_KTH = "--task every_kth_search --search-strategy every_kth"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--search-strategy every_kth", "needs a --task with the option --alpha-every"),
        (
            "--task every_kth_search --alpha-every 3",
            "--alpha-every is 3: it is an option of --search-strategy every_kth, not of darts",
        ),
        (f"{EVERY_KTH} --alpha-every 0", "--alpha-every is 0, it must be at least 1"),
        (f"{EVERY_KTH} --optimizer adam", "--optimizer is adam, .*every_kth needs bilevel_adam"),
        (
            "--search-strategy every_nth",
            r"every_nth: expected one of .*, or one that a plugin \(--user-dir\) registers",
        ),
    ],
)
def test_strategy_refuses(options, message):
    with pytest.raises(InputError, match=message):
        planned(options)


def test_strategy_updates_only_its_levels():
    class Mine(SearchStrategy):
        name = "mine"
        optimizer = "bilevel_adam"

        def __init__(self):
            pass

    with (
        pytest.raises(ValueError, match=r"Mine updates 'alpha', but its `levels` are \('weights',"),
        Mine().updating([ALPHA], build_search(), None),
    ):
        pass


class Pushing(SearchStrategy):
    """Adds the update's loss, summed over the workers or not, to alpha's gradients."""

    name = "pushing"
    levels = LEVELS
    summed = True

    def train_step(self, train_step, sample, model, criterion, optimizer, *arguments):
        result = train_step(sample, model, criterion, optimizer, *arguments)
        loss = result[0].detach().clone()
        if self.summed:
            torch.distributed.all_reduce(loss)
        for alpha in (model.encoder.alpha, model.decoder.alpha):
            alpha.grad[..., 0] += loss
        return result

    def after_update(self, model, optimizer, update_num):
        compare_alpha(model, f"after update {update_num}")


def push(summed: bool) -> None:
    """Register it."""
    Pushing.summed = summed
    register_strategy(Pushing)


def test_added_gradients_are_to_be_summed_over_the_workers(data, tmp_path):
    """Then both backends agree; otherwise the workers' alphas differ under one of them."""
    kind, found = [*SUPERNET, *"--optimizer sgd --search-strategy pushing".split()], []
    for backend in ("legacy_ddp", "pytorch_ddp"):
        options = f"--max-update 4 --disable-validation --ddp-backend {backend}".split()
        train_workers(kind, data, tmp_path / backend, *options, prepare=partial(push, True))
        found.append(checkpoint(tmp_path / backend)["model"]["encoder.alpha"])
    assert torch.allclose(*found, rtol=1e-4, atol=1e-6)
    assert (found[0][..., 0] < found[0][..., 1:].amin(-1) - 0.01).all()
    runs = run_workers(kind, data, tmp_path / "own", *options, prepare=partial(push, False))
    assert all("that the strategy does the same on all of them" in run.stderr for run in runs)


class Remembering:
    """Adds the sum of all updates' losses to a strategy's state."""

    def __init__(self, cfg):
        super().__init__(cfg)
        self.total = self.loss = torch.zeros(())

    def train_step(self, *arguments):
        result = super().train_step(*arguments)
        self.loss = result[0].detach()
        return result

    def after_update(self, *arguments):
        super().after_update(*arguments)
        self.total = self.total + self.loss

    def state_dict(self):
        return {"total": self.total}

    def load_state_dict(self, state):
        self.total = state["total"]


def remember() -> None:
    """Register strategies with a state, with and without the monitor's."""
    for base in (Darts, UniformSampling):
        register_strategy(type("Mine", (Remembering, base), {"name": f"remembering_{base.name}"}))


@pytest.mark.parametrize(("kind", "base"), [(SEARCH, Darts), (SAMPLING, UniformSampling)])
def test_state_survives_a_kill(data, tmp_path, kind, base):
    kind = [*kind, "--search-strategy", f"remembering_{base.name}"]
    options = "--max-update 7 --save-interval-updates 4 --log-interval 2 --disable-validation"
    arguments = training(kind, data, tmp_path / "killed", *options.split())
    run = start("train", arguments, tmp_path / "killed", kill_after=5, prepare=remember).wait()
    assert run.status == -SIGKILL
    found = []
    for folder in (tmp_path / "killed", tmp_path / "other"):
        train(kind, data, folder, *options.split(), prepare=remember)
        found.append(checkpoint(folder)["extra_state"]["TranslationSearchTask"])
    assert found[0] == found[1] and found[0]["strategy"]["total"] > 0
    assert ("best" in found[0]) == (base is Darts)
