"""What every search strategy that learns alpha keeps: gradients, levels, resume, workers."""

import math
from collections.abc import Callable
from functools import cache
from itertools import pairwise
from signal import SIGKILL

import pytest
import torch
from helpers.fairseq_commands import (
    DARTS,
    SEARCH,
    TEXT_SEARCH,
    Run,
    checkpoint,
    refused,
    start,
    train,
    train_workers,
    training,
)
from helpers.kill_and_resume import check_same_end
from omegaconf import DictConfig

from fairseq_dartsformer.errors import InputError
from fairseq_dartsformer.memory.planner import Training, training_config
from fairseq_dartsformer.search.eigenvalue import dominant_eigenvalue, has_grown
from fairseq_dartsformer.search.hypergradient import directional_derivative, neumann_series
from fairseq_dartsformer.search.penalties import build_penalties, penalty_gradients
from fairseq_dartsformer.search.registry import STRATEGIES
from fairseq_dartsformer.search.snapshot import derive, load_snapshot, snapshot_of, take_snapshot
from fairseq_dartsformer.search.strategy import SearchStrategy
from fairseq_dartsformer.search_space.levels import ALPHA, LEVELS, WEIGHTS, level_of
from fairseq_dartsformer.search_space.sampling import searched_node, searched_stacks

IDARTS = "idarts --arch-interval 2"
# Every strategy that learns alpha, with the options whose paths differ.
CASES = [
    "darts --arch-penalty beta:1,parameters:0.1 --arch-noise 0.1 --stop-eigenvalue 0.75",
    "single_level",
    "snas",
    "dsnas",
    "gdas",
    "drnas --prune-at 3",
    IDARTS,
    "darts_prime",
    "darts_prime --prime-schedule fixed --prime-activation clamp --prime-regularizer admm",
    "unas",
    "unas --unas-reward chrf",
    "sequence_reward",
    "prune_then_search --prune-at 6 --prune-rounds 2",
    "prune_then_search --prune-at 2 --then-strategy idarts --arch-interval 2",
]
LEARNING = [name for name, strategy in STRATEGIES.items() if strategy.learns_alpha()]


def kind(case: str, search: list[str] = SEARCH) -> list[str]:
    return [*search, *f"--search-strategy {case}".split()]


TRANSLATION, TEXT = "dartsformer_search", "dartsformer_lm_search"


def small_search(case: str, arch: str = TRANSLATION, *more: str) -> DictConfig:
    options = "--hidden-dim 48 --embed-dim 8 --decoder-layers 2 --max-tokens 100 --cpu "
    options += "--decoder-operations conv_3,self_attention,glu,zero --max-update 9 "
    if arch == TRANSLATION:
        options += "--encoder-layers 2 --encoder-operations dynamic_conv_3,ffn,identity,zero "
    return training_config(arch, [*f"{options} --search-strategy {case}".split(), *more])


def tiny(case: str) -> Training:
    return Training(small_search(case), 50)


def test_every_strategy_is_here():
    assert {case.split()[0] for case in CASES} == {*LEARNING}


# What these compute, others do, too; REINFORCE's first gradient is zero.
GRADIENTS = [case for case in CASES if "reward" not in case and "prune_then" not in case]


@pytest.mark.parametrize(
    ("case", "arch"),
    [
        *((case, TRANSLATION) for case in GRADIENTS),
        *((case, TEXT) for case in GRADIENTS),
    ],
)
def test_gradients_are_those_of_stored_activations(case, arch):
    """To 1e-9 in float64, with dropout, in updates of all kinds."""
    found = []
    cfg = small_search(case, arch, "--dropout", "0.2")
    for backprop in ("reconstruct", "store"):
        cfg.model.backprop = backprop
        torch.manual_seed(1)
        training = Training(cfg, 50)
        training.build_optimizer()  # fairseq clips single precision only
        training.model.double().train()
        for update in range(2):
            torch.manual_seed(7)
            batch = training.batch(LEVELS[update], 3, 6)
            training.optimizer.zero_grad()
            training.compute_gradients(batch, update)
            moved = training.optimizer.optimizer.levels
            parameters = training.model.named_parameters()
            found.append(
                {
                    name: p.grad.clone()
                    for name, p in parameters
                    if p.grad is not None and level_of(p) in moved
                }
            )
    for reconstructed, stored in zip(found[:2], found[2:], strict=True):
        assert reconstructed.keys() == stored.keys() and stored
        for name, grad in stored.items():
            bound = 1e-9 * max(1.0, float(grad.abs().max()))
            assert (reconstructed[name] - grad).abs().max() <= bound, name
    assert any("decoder.alpha" in grads and grads["decoder.alpha"].any() for grads in found)


@pytest.mark.parametrize(
    ("case", "arch"),
    [
        *((case, TRANSLATION) for case in GRADIENTS[1:]),
        ("prune_then_search --prune-at 6", TRANSLATION),
        *(
            (f"prune_then_search --prune-at 6 --then-strategy {following}", arch)
            for following, arch in (("snas", TEXT), ("unas", TRANSLATION))
        ),
    ],
)
def test_penalties_add_their_gradient_whenever_alpha_moves(case, arch):
    found: dict[bool, list[torch.Tensor]] = {}
    for penalised in (False, True):
        penalty = ["--arch-penalty", "parameters:1"] * penalised
        cfg = small_search(case, arch, *penalty)
        torch.manual_seed(1)
        training = Training(cfg, 50)
        training.build_optimizer()
        alphas = [coder.alpha for coder in searched_stacks(training.model).values()]
        found[penalised] = []
        for update in range(2):
            torch.manual_seed(7)
            training.optimizer.zero_grad()
            training.compute_gradients(training.batch(LEVELS[update], 3, 6), update)
            if ALPHA in training.optimizer.optimizer.levels:
                found[penalised] += [alpha.grad.clone() for alpha in alphas]
    own = build_penalties(cfg.task)
    expected = penalty_gradients(own, searched_stacks(training.model), lambda: 1.0)
    pairs = zip(found[False], found[True], strict=True)
    differences = [penalised - without for without, penalised in pairs]
    assert differences
    for i, difference in enumerate(differences):
        torch.testing.assert_close(difference, expected[i % len(expected)], rtol=1e-4, atol=1e-5)


# Of the others, one moves alpha when it sees fit, and one lets alpha begin anew.
MOVING = [case for case in CASES if case != "darts_prime" and "then-strategy" not in case]


def length(case: str, usual: int) -> int:
    """Updates of a search in which alpha moves: by this schedule, in the tenth."""
    return 13 if case == "darts_prime" else usual


def options_of(case: str) -> list[str]:
    """Of searches that are interrupted or not; before ``--arch-start``, alpha rests."""
    options = f"--max-update {length(case, 9)} --save-interval-updates 4 --log-interval 4 "
    options += "--disable-validation"
    return [*options.split(), *["--arch-start", "2"] * (case in MOVING)]


SPACES = {"dartsformer": SEARCH, "darts_transformer": DARTS, "dartsformer_lm": TEXT_SEARCH}


@pytest.fixture(scope="module")
def complete(data, tmp_path_factory) -> Callable[..., Run]:
    """A recorded search by a case that nothing interrupts."""

    @cache
    def search(case: str, space: str = "dartsformer") -> Run:
        folder = tmp_path_factory.mktemp("complete")
        arguments = kind(case, SPACES[space])
        return train(arguments, data, folder, *options_of(case), record=True)

    return search


@pytest.mark.parametrize(
    ("case", "space"),
    [
        *((case, "dartsformer") for case in MOVING),
        *((case, "darts_transformer") for case in MOVING),
        *(
            (case, "dartsformer_lm")
            for case in (
                "single_level",
                "dsnas",
                "gdas",
                "unas",
                "prune_then_search --prune-at 6 --prune-rounds 2",
            )
        ),
    ],
)
def test_updates_move_only_their_levels(complete, case, space):
    """And alpha rests before ``--arch-start``."""
    run = complete(case, space)
    moved = set()
    for before, after in pairwise(run.steps):
        for level in LEVELS:
            same = torch.equal(before.state[level]["value"], after.state[level]["value"])
            assert same == (level not in after.level.split("+")), (after.updates, level)
        assert ALPHA not in after.level or after.updates > 2
        moved |= {after.level}
    assert any(ALPHA in level for level in moved) and any(WEIGHTS in level for level in moved)
    assert "genotype after 8 updates" in run.stdout


@pytest.mark.parametrize("case", CASES)
def test_killed_search_ends_with_the_same_bits(data, complete, tmp_path, case):
    arguments = training(kind(case), data, tmp_path, *options_of(case))
    run = start("train", arguments, tmp_path, kill_after=6).wait()
    assert run.status == -SIGKILL
    assert checkpoint(tmp_path)["optimizer_history"][-1]["num_updates"] == 4
    train(kind(case), data, tmp_path, *options_of(case))
    other = complete(case).folder
    check_same_end(tmp_path, other, length(case, 9))
    assert snapshot_of(checkpoint(other), "other").best


def test_a_new_epoch_keeps_the_state_of_the_search(data, tmp_path):
    """With ``--reset-dataloader``, for which fairseq leaves out the task's state."""
    options = "--disable-validation --log-interval 2 --max-update".split()
    states = []
    for more in (["4"], ["5", "--reset-dataloader"]):
        train(kind("darts_prime"), data, tmp_path, *options, *more)
        states.append(checkpoint(tmp_path)["extra_state"]["TranslationSearchTask"])
    before, after = states
    ratio = after["strategy"]["threshold"] / before["strategy"]["threshold"]
    assert any(ratio == pytest.approx(1.05**power) for power in (1, -10))
    assert after["strategy"]["information"] > 0.5 * before["strategy"]["information"] > 0
    assert {**after, "strategy": 0} == {**before, "strategy": 0}
    run = train(kind("unas"), data, tmp_path, *options, "6", "--reset-dataloader")
    assert "the search was by darts_prime, whose state unas ignores" in run.stdout + run.stderr


def together(case: str) -> list[str]:
    """Options of a search in which the number of workers makes no difference."""
    options = f"--max-update {length(case, 4)} --dropout 0 --attention-dropout 0 --adam-eps 1e-6 "
    return [*options.split(), *"--batch-size 40 --disable-validation --no-save".split()]


@pytest.fixture(scope="module")
def alone(data, tmp_path_factory) -> Callable[[str], Run]:
    """A search by one worker."""

    @cache
    def search(case: str) -> Run:
        folder, options = tmp_path_factory.mktemp("alone"), [*together(case), "--update-freq", "2"]
        return train(kind(case), data, folder, *options, record=True)

    return search


@pytest.mark.parametrize("backend", ["legacy_ddp", "pytorch_ddp"])
@pytest.mark.parametrize(
    "case",
    [case for case in CASES if "reward" not in case],  # each worker samples its own translations
)
def test_two_workers_reach_the_result_of_one(data, alone, tmp_path, case, backend):
    one = alone(case)
    arguments = [*together(case), "--ddp-backend", backend]
    workers = train_workers(kind(case), data, tmp_path / "two", *arguments, record=True)
    for level in LEVELS:
        ends = [run.steps[-1].state[level]["value"] for run in (one, *workers)]
        assert torch.equal(ends[1], ends[2])
        assert (ends[0] - ends[1]).abs().max() < 1e-4
        assert not torch.equal(one.steps[0].state[level]["value"], ends[0])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("darts --arch-start -1", "--arch-start is -1"),
        ("darts --arch-interval 0", "--arch-interval is 0"),
        ("darts --stop-eigenvalue 1", "--stop-eigenvalue is 1"),
        ("darts --stop-eigenvalue 0.75 --fp16", "--fp16 cannot be used with --stop-eigenvalue"),
        ("single_level --arch-interval 2", "--arch-interval is 2: it is an option of"),
        ("gdas --arch-noise 0.1", "--arch-noise is 0.1: it is an option of"),
        ("darts --arch-penalty beta", "--arch-penalty: 'beta' must be NAME:WEIGHT"),
        ("darts --arch-penalty no_such:1", "of beta, proximity"),
        ("darts --arch-penalty beta:1,beta:2", "given once"),
        ("darts --derive-exclude nothing", "--derive-exclude: 'nothing' is not an operation"),
        (
            "darts --encoder-operations ffn,zero --derive-exclude zero,ffn",
            "--derive-exclude is zero,ffn: leaves no candidate of the encoder, which has ffn, zero",
        ),
        ("snas --arch-temperature 0", "--arch-temperature is 0"),
        ("drnas --prune-keep 1", "--prune-keep is 1"),
        ("drnas --prune-at 0", "--prune-at is 0"),
        ("idarts --neumann-radius 0", "--neumann-radius is 0"),
        ("idarts --fp16", "--fp16 cannot be used with --search-strategy idarts"),
        ("darts_prime --prime-schedule slow", "--prime-schedule is slow, it must be one of"),
        ("unas --unas-reward ter", "--unas-reward is ter"),
        ("prune_then_search --then-strategy uniform_sampling", "--then-strategy is uniform_samp"),
        ("prune_then_search --prune-rounds 0", "--prune-rounds is 0"),
        (
            "prune_then_search --prune-at 3 --arch-start 3",
            "--prune-at is 3 and --arch-start is 3: alpha must move before it prunes",
        ),
        ("prune_then_search --prune-memory 0", "--prune-memory is 0.0, it must be a positive"),
        (
            "prune_then_search --prune-memory 1 --prune-keep 0.5",
            "--prune-keep is 0.5: give only one",
        ),
        (
            "prune_then_search --prune-memory 1 --then-strategy sequence_reward",
            "cannot be planned for sequence_reward",
        ),
        ("darts --prune-memory 1", "--prune-memory is 1.0: it is an option of"),
        ("prune_then_search --arch-temperature 1", "--arch-temperature is 1: it is an option of"),
        ("sequence_reward --reward-weight 2", "--reward-weight is 2"),
    ],
)
def test_options_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        tiny(options)


def test_a_schedule_needs_the_search_to_end(data, tmp_path):
    pattern = "--max-update is 0, it must be the search's length"
    refused(kind("snas"), data, tmp_path, "--max-update", "0", pattern=pattern)


def test_hessian_products_and_their_series():
    """On a quadratic loss, finite differences are exact, and so is the sum."""
    torch.manual_seed(1)
    root = torch.randn(6, 6, dtype=torch.double)
    hessian = root @ root.t() / 6 + torch.eye(6, dtype=torch.double)
    theta = torch.nn.Parameter(torch.randn(6, dtype=torch.double))
    before = theta.detach().clone()
    vector = [torch.randn(6, dtype=torch.double)]

    def product(direction):
        return directional_derivative(lambda: [hessian @ theta], [theta], direction, 0.1)

    torch.testing.assert_close(product(vector)[0], hessian @ vector[0])
    found = neumann_series(product, vector, 3, 0.1)[0]
    step = torch.eye(6, dtype=torch.double) - 0.1 * hessian
    expected = 0.1 * sum(torch.linalg.matrix_power(step, k) @ vector[0] for k in range(4))
    torch.testing.assert_close(found, expected)
    assert torch.equal(theta, before)
    many = neumann_series(lambda v: [hessian @ v[0]], vector, 500, 0.1)[0]
    torch.testing.assert_close(many, torch.linalg.solve(hessian, vector[0]))

    sharp = torch.diag(torch.tensor([0.1, -3.0, 0.5, 1.0, 0.2, 0.3], dtype=torch.double))
    value = dominant_eigenvalue(lambda: [sharp @ theta], [theta])
    assert value == pytest.approx(-3, rel=1e-3) and torch.equal(theta, before)


def test_search_stops_when_the_eigenvalue_has_grown():
    """The mean of three values exceeds that of the three five steps before."""
    assert not has_grown([1.0] * 20, 0.75) and not has_grown([1.0, 1.0, 9.0], 0.75)
    assert has_grown([1.0, 1.0, 1.0, 1.2, 1.4, 1.5, 1.6, 1.7], 0.75)
    assert not has_grown([1.0, 1.0, 1.0, 1.1, 1.1, 1.2, 1.2, 1.3], 0.75)


def test_pruned_search_is_derived_from_what_remains(data, tmp_path):
    options = "--max-update 6 --save-interval-updates 6 --disable-validation --log-interval 2"
    case = "drnas --prune-at 4 --prune-keep 0.4 --derive-exclude zero"
    run = train(kind(case), data, tmp_path, *options.split())
    snapshot = snapshot_of(checkpoint(tmp_path), "last")
    for node in snapshot.nodes():
        remaining = snapshot.remaining[node.stack][node.layer, node.row]
        names = snapshot.candidates[node.stack]
        kept = {name for name, keep in zip(names, remaining, strict=True) if keep}
        assert len(kept) < len(names)
        weights = dict(snapshot.ranked(node))
        assert {name for name, weight in weights.items() if weight > 0} == kept
        assert snapshot.best[snapshot.name(node)] in kept - {"zero"}
        told = f"{len(kept)} of {len(names)} candidates in a node of the {node.stack}"
        assert told in run.stdout + run.stderr


def test_clamped_weights_leave_an_operation_that_can_be_derived():
    """Though only excluded ones have positive weights."""
    case = "darts_prime --prime-schedule fixed --prime-activation clamp --derive-exclude"
    training = tiny(f"{case} zero,identity")
    training.build_optimizer()
    cfg, model, optimizer = training.cfg, training.model, training.optimizer
    for coder in searched_stacks(model).values():
        excluded = [name in ("zero", "identity") for name in searched_node(coder).names]
        coder.alpha.data = torch.where(torch.tensor(excluded), 0.5, -0.5 - coder.alpha)
    optimizer.optimizer.gradient_norm = torch.tensor(1.0)
    training.task.strategy.after_update(model, optimizer, 1)
    snapshot = take_snapshot(cfg.model, cfg.task, model.state_dict(), 1, "the search")
    counts = {s: {len(row) for layer in a for row in layer} for s, a in snapshot.active.items()}
    assert counts == {"encoder": {3}, "decoder": {2}}  # one more than the positive ones
    assert not {*snapshot.best.values()} & {"zero", "identity"}
    assert derive(snapshot).to_json()


def test_strategies_that_follow(monkeypatch):
    """One may prune with the share of the first; a plugin's must learn alpha as ours do, and may
    be missing where a genotype is derived."""
    assert (
        tiny("prune_then_search --then-strategy drnas --prune-keep 0.3").task.strategy.keep == 0.3
    )

    class Other(SearchStrategy):
        name, levels, optimizer = "other", LEVELS, "bilevel_adam"

    monkeypatch.setitem(STRATEGIES, "other", Other)
    with pytest.raises(InputError, match="--then-strategy is other: expected one of darts, single"):
        tiny("prune_then_search --then-strategy other")
    training = tiny("prune_then_search")
    task = {**training.cfg.task, "then_strategy": "not_loaded"}
    state = training.model.state_dict()
    assert take_snapshot(training.cfg.model, task, state, 1, "the search").best


def test_nothing_is_pruned_before_alpha_moves(data, tmp_path):
    """The rounds are spread over alpha's updates; the last one leaves the share."""
    options = "--max-update 8 --arch-start 4 --disable-validation --save-interval-updates 1"
    case = "prune_then_search --prune-at 8 --prune-rounds 2 --prune-keep 0.3"
    train(kind(case), data, tmp_path, *options.split())
    counts = {}
    for path in (tmp_path / "checkpoints").glob("checkpoint*.pt"):
        snapshot = load_snapshot(str(path))
        left = {int(n) for m in snapshot.remaining.values() for n in m.sum(-1).flatten()}
        counts[snapshot.updates] = left
    sizes = {len(names) for names in snapshot.candidates.values()}
    half, rest = ({math.ceil(n * share) for n in sizes} for share in (0.3**0.5, 0.3))
    expected = [set()] * 5 + [half] * 2 + [rest]  # empty: nothing has been pruned
    assert counts == dict(enumerate(expected, start=1))


@pytest.mark.parametrize(
    ("case", "named"),
    [
        ("sequence_reward", "--search-strategy sequence_reward rewards"),
        ("unas --unas-reward bleu", "--search-strategy unas --unas-reward bleu rewards"),
        (
            "prune_then_search --then-strategy sequence_reward",
            "--search-strategy prune_then_search --then-strategy sequence_reward rewards",
        ),
    ],
)
def test_a_text_has_no_references_to_reward_by(data, tmp_path, case, named):
    refused(
        kind(case, TEXT_SEARCH),
        data,
        tmp_path,
        "--max-update",
        "9",
        pattern=f"{named} translations",
    )
