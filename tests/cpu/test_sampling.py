"""Search by sampling: what is drawn, computed and updated."""

import itertools
import re
from collections import Counter
from random import Random
from types import SimpleNamespace

import pytest
import torch
from helpers.fairseq_commands import SAMPLING, SAMPLING_DARTS, checkpoint, train, train_workers
from helpers.gradients import assert_same_gradients, gradients
from helpers.logs import LOGGING, lines
from helpers.models import batch, build_darts, build_search, multiplications
from helpers.training_steps import Step
from omegaconf import OmegaConf
from torch import Tensor, nn

from fairseq_dartsformer.search.uniform_sampling import UniformSampling
from fairseq_dartsformer.search_space.levels import ALPHA, WEIGHTS
from fairseq_dartsformer.search_space.sampling import chosen, draw

BUILD = {"dartsformer": build_search, "darts_transformer": build_darts}


def architecture(model, update: int, seed: int = 1):
    """The architecture that an update draws."""
    cfg = OmegaConf.create({"seed": seed})
    return UniformSampling(cfg).draw(model, f"update {update}")


def drawn(model: nn.Module, choice) -> set[str]:
    """Names of the parameters of the chosen and the fixed operations."""
    names = set()
    for stack in ("encoder", "decoder"):
        for i, layer in enumerate(getattr(model, stack).stack.layers):
            row = iter(choice[stack][i % len(choice[stack])])
            for k, node in enumerate(layer.nodes):
                o = 0 if len(node) == 1 else next(row)
                prefix = f"{stack}.stack.layers.{i}.nodes.{k}.{o}."
                names |= {prefix + name for name, _ in node[o].named_parameters()}
    return names


@pytest.mark.parametrize("family", BUILD)
def test_draws_are_uniform_and_follow_from_seed_and_update(family):
    model, updates = BUILD[family](), 2000
    counts: dict[tuple, Counter] = {}
    pairs = Counter()
    for update in range(updates):
        choice = architecture(model, update)
        assert choice == architecture(model, update)
        for stack, layers in choice.items():
            for i, layer in enumerate(layers):
                for k, o in enumerate(layer):
                    counts.setdefault((stack, i, k), Counter())[o] += 1
        pairs[choice["encoder"][0][0], choice["decoder"][1][1]] += 1
    assert len(counts) == 2 * 2 + 2 * 2
    for (stack, _, _), count in counts.items():
        candidates = 13 if stack == "encoder" else 14
        assert set(count) == set(range(candidates))
        # Five deviations of a binomial distribution.
        expected = updates / candidates
        assert max(abs(n - expected) for n in count.values()) < 5 * expected**0.5
    assert len(pairs) > 180 and max(pairs.values()) < 40  # of 182 pairs of two nodes, 11 times each
    draws = [architecture(model, n, seed) for seed in (1, 2) for n in (0, 1)]
    assert all(a != b for i, a in enumerate(draws) for b in draws[:i])


@pytest.mark.parametrize("family", BUILD)
def test_what_was_not_drawn_is_not_computed(family):
    learning = "conv_3,dynamic_conv_3,self_attention,ffn"  # a zero may cut the rest off
    model = BUILD[family](encoder_operations=learning, decoder_operations=learning)
    computed = set()
    for name, module in model.named_modules():
        if re.fullmatch(r"\w+\.stack\.layers\.\d+\.nodes\.\d+\.\d+", name):
            module.register_forward_hook(lambda *_, name=name: computed.add(name))
    for seed in range(3):
        choice = draw(model, Random(seed))
        computed.clear()
        model.zero_grad()
        with chosen(model, choice):
            loss = model(**batch([5, 3]))[0].square().mean()
        loss.backward()
        names = drawn(model, choice)
        norm = ".layer_norm.weight"  # every one of them has it
        assert computed == {name.removesuffix(norm) for name in names if name.endswith(norm)}
        gradients = {name for name, p in model.named_parameters() if p.grad is not None}
        assert {name for name in gradients if ".nodes." in name} == names
        assert model.encoder.alpha.grad is None


@pytest.mark.parametrize("pooling", ["max", "avg"])
@pytest.mark.parametrize("splits", [2, 3])
def test_gradients_equal_ordinary_autograd(splits, pooling):
    torch.manual_seed(splits)
    sizes = {"hidden_dim": 120, "encoder_layers": 4, "decoder_layers": 4}
    model = build_search(encoder_splits=splits, pooling=pooling, **sizes).double()
    for seed in range(4):
        with chosen(model, draw(model, Random(seed))):
            found = [gradients(model, backprop) for backprop in ("store", "reconstruct")]
        assert_same_gradients(*found)


def test_training(data, tmp_path):
    """The weights learn; alpha stays, and no decay acts on it."""
    options = [*LOGGING[2:], "--max-update", "60", "--weight-decay", "0.01"]
    run = train(SAMPLING_DARTS, data, tmp_path, *options, record=True)
    first, last = run.steps[0].state, run.steps[-1].state
    assert torch.equal(first[ALPHA]["value"], last[ALPHA]["value"])
    assert not last[ALPHA]["exp_avg"].any()
    moved = first[WEIGHTS]["value"] != last[WEIGHTS]["value"]
    assert moved.float().mean() > 0.99
    losses = [step.loss for step in run.steps[1:]]
    assert sum(losses[-10:]) < sum(losses[:10]) - 10 * 0.5
    shown = lines(run.stdout)
    assert shown and not any({"loss_alpha", "alpha_entropy"} & line.keys() for line in shown)


def check_only_drawn_operations_move(steps: list[Step], weights: dict[str, Tensor]) -> None:
    """Parameters and moments of other operations keep every bit; those of the drawn ones move."""
    alpha = {stack: weights.pop(f"{stack}.alpha") for stack in ("encoder", "decoder")}
    model = SimpleNamespace(**{stack: SimpleNamespace(alpha=alpha[stack]) for stack in alpha})
    sizes = [weight.numel() for weight in weights.values()]
    assert sum(sizes) == steps[0].state[WEIGHTS]["value"].numel()
    again = 0
    for before, after in itertools.pairwise(steps):
        choice = architecture(model, before.updates)
        for key in ("value", "master", "exp_avg", "exp_avg_sq"):
            old, new = (step.state[WEIGHTS][key].split(sizes) for step in (before, after))
            for name, one, two in zip(weights, old, new, strict=True):
                place = re.match(r"(\w+)\.stack\.layers\.(\d+)\.nodes\.(\d+)\.(\d+)\.", name)
                if place is None:
                    continue
                stack, (layer, node, operation) = place[1], map(int, place.groups()[1:])
                row = choice[stack][layer % len(choice[stack])]
                if node < len(row) and row[node] != operation:
                    assert one.equal(two), (before.updates, key, name)
                    again += key == "exp_avg" and bool(one.any())
                elif name.endswith("layer_norm.bias"):
                    assert not one.equal(two), (before.updates, key, name)
    assert again > 100  # momentum would have moved these


@pytest.mark.parametrize(
    "options",
    [
        *("--update-freq 2 --weight-decay 0.1 --clip-norm 0.1", "--fp16", "--bf16", "--amp"),
        "--ddp-backend legacy_ddp --fp16",
    ],
)
def test_operations_that_are_not_drawn_do_not_move(data, tmp_path, options):
    arguments = ["--max-update", "10", "--disable-validation", *options.split()]
    if "ddp" in options:
        runs = train_workers(SAMPLING, data, tmp_path, *arguments, record=True)
    else:
        runs = [train(SAMPLING, data, tmp_path, *arguments, record=True)]
    for run in runs:
        check_only_drawn_operations_move(run.steps, checkpoint(tmp_path)["model"])


@pytest.mark.parametrize(("backprop", "passes"), [("store", 3), ("reconstruct", 4)])
def test_arithmetic_of_an_update(backprop, passes):
    """The forward pass of one path, twice that backward, and a forward pass that is not stored."""
    model = build_search(backprop=backprop, encoder_layers=8, decoder_layers=8, hidden_dim=48)
    net, choice = batch([9, 9, 9]), {"encoder": [[11, 10]] * 2, "decoder": [[9, 11]] * 2}
    with chosen(model, choice):
        with torch.no_grad():
            forward = multiplications(lambda: model(**net))
        total = multiplications(lambda: model(**net)[0].sum().backward())
    assert total / forward == pytest.approx(passes, abs=0.15)


def test_validation_sees_the_same_architectures_every_time(data, tmp_path):
    options = "--max-update 2 --lr 0 --warmup-init-lr 0 --validate-interval-updates 1 --no-save"
    found = []
    for seed in (1, 1, 2):
        folder = tmp_path / str(len(found))
        arguments = [*options.split(), "--log-format", "json", "--seed", str(seed)]
        out = train(SAMPLING, data, folder, *arguments).stdout
        found.append(re.findall(r'"valid_loss": "([\d.]+)"', out))
    assert found[0] == found[1] != found[2]
    assert len(found[0]) >= 2 and len(set(found[0])) == 1
