"""Search by sampling: what is drawn, what is computed of it, and what an update changes."""

import re
from collections import Counter
from random import Random
from types import SimpleNamespace

import pytest
import torch
from helpers.models import batch, build_darts, build_search, multiplications
from helpers.running import SAMPLING, SAMPLING_DARTS, train
from omegaconf import OmegaConf
from test_log import LOGGING, lines
from test_reversible import assert_same_gradients
from torch import nn

from fairseq_dartsformer.errors import InputError
from fairseq_dartsformer.search.registry import STRATEGIES, build_strategy
from fairseq_dartsformer.search.strategy import SearchStrategy
from fairseq_dartsformer.search.uniform_sampling import UniformSampling
from fairseq_dartsformer.search_space.levels import ALPHA, WEIGHTS
from fairseq_dartsformer.search_space.sampling import chosen, draw
from fairseq_dartsformer.tasks.translation_search import TranslationSearchConfig

BUILD = {"dartsformer": build_search, "darts_transformer": build_darts}


class Strategy(UniformSampling):
    """By a seed alone."""

    def __init__(self, seed: int):
        self.cfg = SimpleNamespace(seed=seed)


def drawn(model: nn.Module, choice) -> set[str]:
    """Names of the parameters of the chosen operations and of the decoder's fixed ones."""
    names = set()
    for stack in ("encoder", "decoder"):
        for i, layer in enumerate(getattr(model, stack).stack.layers):
            row = iter(choice[stack][i % len(choice[stack])])
            for k, branches in enumerate(layer.nodes):
                o = 0 if len(branches) == 1 else next(row)
                prefix = f"{stack}.stack.layers.{i}.nodes.{k}.{o}."
                names |= {prefix + name for name, _ in branches[o].named_parameters()}
    return names


@pytest.mark.parametrize("family", BUILD)
def test_draws_are_uniform_and_follow_from_seed_and_update(family):
    model, updates = BUILD[family](), 2000
    counts: dict[tuple, Counter] = {}
    pairs = Counter()
    for update in range(updates):
        choice = Strategy(1).draw(model, f"update {update}")
        assert choice == Strategy(1).draw(model, f"update {update}")
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
    draws = [Strategy(seed).draw(model, f"update {n}") for seed in (1, 2) for n in (0, 1)]
    assert all(a != b for i, a in enumerate(draws) for b in draws[:i])


@pytest.mark.parametrize("family", BUILD)
def test_what_was_not_drawn_is_not_computed(family):
    learning = "conv_3,dynamic_conv_3,self_attention,ffn"  # a zero may cut the rest off
    names = {"encoder_operations": learning, "decoder_operations": learning}
    model, computed = BUILD[family](**names), set()
    operations = {
        f"{stack}.stack.layers.{i}.nodes.{k}.{o}.": branch
        for stack in ("encoder", "decoder")
        for i, layer in enumerate(getattr(model, stack).stack.layers)
        for k, node in enumerate(layer.nodes)
        for o, branch in enumerate(node)
    }
    for name, branch in operations.items():
        branch.register_forward_hook(lambda *_, name=name: computed.add(name))
    layer_norm = "layer_norm.weight"  # every one of them has it
    for seed in range(3):
        choice = draw(model, Random(seed))
        computed.clear()
        model.zero_grad()
        with chosen(model, choice):
            loss = model(**batch([5, 3]))[0].square().mean()
        loss.backward()
        names = drawn(model, choice)
        assert computed == {name[: -len(layer_norm)] for name in names if name.endswith(layer_norm)}
        gradients = {name for name, p in model.named_parameters() if p.grad is not None}
        assert {name for name in gradients if ".nodes." in name} == names
        assert model.encoder.alpha.grad is None


@pytest.mark.parametrize("pooling", ["max", "avg"])
@pytest.mark.parametrize("splits", [2, 3])
def test_gradients_equal_ordinary_autograd(splits, pooling):
    torch.manual_seed(splits)
    sizes = {"hidden_dim": 120, "encoder_layers": 4, "decoder_layers": 4}
    model = build_search(encoder_splits=splits, pooling=pooling, **sizes).double()
    for seed in range(6):
        choice, found = draw(model, Random(seed)), {}
        for backprop in ("store", "reconstruct"):
            for stack in (model.encoder.stack, model.decoder.stack):
                stack.backprop = backprop
            model.zero_grad()
            torch.manual_seed(3)
            with chosen(model, choice):
                logits = model(**batch([3, 9, 6]))[0]
            (logits * torch.linspace(-1, 1, logits.size(-1))).square().mean().backward()
            found[backprop] = {
                name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None
            }
        assert_same_gradients(found["store"], found["reconstruct"])


def test_a_strategy_has_its_own_options_alone(monkeypatch):
    class Mine(SearchStrategy):
        name = "mine"
        options = ("arch_subset",)

    monkeypatch.setitem(STRATEGIES, "mine", Mine)
    fields = TranslationSearchConfig.__dataclass_fields__
    for name, strategy in STRATEGIES.items():
        assert all(fields[option].default is None for option in strategy.options)
        for given, value in {"arch_fraction": 0.5, "arch_subset": "alpha"}.items():
            options = (option for s in STRATEGIES.values() for option in s.options)
            values = dict.fromkeys(options) | {given: value}
            others = {"memory_efficient_fp16": False, "memory_efficient_bf16": False, "seed": 1}
            others["train_subset"] = "train"
            cfg = OmegaConf.create({"search_strategy": name, **others, **values})
            if given in strategy.options:
                assert isinstance(build_strategy(cfg), strategy)
            else:
                flag = given.replace("_", "-")
                with pytest.raises(InputError, match=f"--{flag} is {value}, .* {name} does not"):
                    build_strategy(cfg)


@pytest.mark.parametrize("kind", [SAMPLING, SAMPLING_DARTS], ids=["dartsformer", "darts"])
def test_training(data, tmp_path, kind):
    """The weights learn; alpha stays, and no decay acts on it."""
    options = [*LOGGING[2:], "--max-update", "60", "--weight-decay", "0.01"]
    run = train(kind, data, tmp_path, *options, record=True)
    first, last = run.steps[0].state, run.steps[-1].state
    assert torch.equal(first[ALPHA]["value"], last[ALPHA]["value"])
    assert "exp_avg" not in last[ALPHA]
    moved = first[WEIGHTS]["value"] != last[WEIGHTS]["value"]
    assert moved.float().mean() > 0.99
    losses = [step.loss for step in run.steps[1:]]
    assert sum(losses[-10:]) < sum(losses[:10]) - 10 * 0.5
    shown = lines(run.stdout)
    assert shown and not any({"loss_alpha", "alpha_entropy"} & line.keys() for line in shown)


def test_each_update_has_a_gradient_of_what_it_drew_alone(data, tmp_path):
    """Of about a fifth of the candidates' parameters, over all batches of an update; all of the
    weights have moments, whether drawn or not."""
    run = train(SAMPLING, data, tmp_path, *"--max-update 8 --update-freq 3".split(), record=True)
    moving = [(step.state[WEIGHTS]["gradient"] != 0) for step in run.steps[1:]]
    assert len({tuple(m.tolist()) for m in moving}) == len(moving)
    assert all((step.state[WEIGHTS]["step"] == step.updates).all() for step in run.steps[1:])
    once = torch.stack(moving).any(0).float().mean()
    assert max(m.float().mean() for m in moving) < 0.7 < once


@pytest.mark.parametrize(("backprop", "passes"), [("store", 3), ("reconstruct", 4)])
def test_arithmetic_of_an_update(backprop, passes):
    """A forward pass of one path, backward twice that, and again what is not stored."""
    model = build_search(backprop=backprop, encoder_layers=8, decoder_layers=8, hidden_dim=48)
    net, choice = batch([9, 9, 9]), {"encoder": [[11, 10]] * 2, "decoder": [[9, 11]] * 2}
    with chosen(model, choice):
        with torch.no_grad():
            forward = multiplications(lambda: model(**net))
        whole = multiplications(lambda: model(**net)[0].sum().backward())
    assert whole / forward == pytest.approx(passes, abs=0.15)


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
