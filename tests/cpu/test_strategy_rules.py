"""What strategies compute, against their papers' formulas written down once more."""

from collections.abc import Callable
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.nn.functional import one_hot

from fairseq_dartsformer.memory.planner import Training, training_config
from fairseq_dartsformer.search.admm import ADMM
from fairseq_dartsformer.search.policy import Policy
from fairseq_dartsformer.search_space.levels import ALPHA, WEIGHTS
from fairseq_dartsformer.search_space.relaxation import with_noise
from fairseq_dartsformer.search_space.sampling import chosen, searched_stacks

SIZES = (
    "--hidden-dim 48 --embed-dim 8 --encoder-layers 2 --decoder-layers 2 --max-update 9 --cpu "
    "--encoder-operations ffn,identity,zero --decoder-operations conv_3,self_attention,glu"
)


def training(case: str) -> Training:
    torch.manual_seed(2)
    made = Training(
        training_config("dartsformer_search", f"{SIZES} --search-strategy {case}".split()), 50
    )
    made.build_optimizer()
    made.model.double().eval()
    for coder in searched_stacks(made.model).values():
        torch.nn.init.normal_(coder.alpha)
    return made


def test_noise_keeps_the_sum_and_what_is_pruned():
    torch.manual_seed(1)
    weights = 1.5 * torch.rand(500, 2, 5).softmax(-1)
    remaining = torch.tensor([True, True, True, True, False])
    weights = weights.masked_fill(~remaining, 0)
    noisy = with_noise(weights, 0.1, remaining)
    torch.testing.assert_close(noisy.sum(-1), weights.sum(-1))
    assert (noisy[..., :4] > 0).all() and not noisy[..., 4].any()
    assert 0.03 < (noisy - weights).std() < 0.1
    torch.testing.assert_close(with_noise(weights, 0.0, remaining), weights)


@pytest.mark.parametrize("activation", ["softmax", "clamp"])
def test_admm(activation):
    """`½ ‖W - Z + U‖`; after ten steps `Z = disc(act(alpha + U))` and `U ← U + W - Z`."""
    made = training(f"darts_prime --prime-activation {activation} --prime-regularizer admm")
    coders, admm = searched_stacks(made.model), ADMM()

    def disc(weights):
        return (weights == weights.amax(-1, keepdim=True)).to(weights)

    def expected():
        total = 0.0
        for s, coder in coders.items():
            weights = coder.mixing_weights()
            distance = weights - targets.get(s, disc(weights)) + duals[s]
            total = total + distance.pow(2).sum().sqrt() / 2
        return total

    for coder in coders.values():
        coder.alpha.data.uniform_(0.1, 0.9)
    targets: dict[str, torch.Tensor] = {}  # at first, what is nearest now
    duals = {s: torch.zeros_like(c.alpha) for s, c in coders.items()}
    alphas = [coder.alpha for coder in coders.values()]
    for step in range(1, 21):
        own, wanted = admm(coders, lambda: 0.5), expected()
        torch.testing.assert_close(own, wanted)
        for grads in zip(*(torch.autograd.grad(x, alphas) for x in (own, wanted)), strict=True):
            torch.testing.assert_close(*grads)
        for coder in coders.values():
            coder.alpha.data += 0.05 * torch.randn_like(coder.alpha)
        admm.step(coders)
        if step % 10 == 0:
            for s, c in coders.items():
                targets[s] = disc(c.relaxation(c.alpha + duals[s], None)).detach()
                duals[s] = (duals[s] + c.mixing_weights() - targets[s]).detach()


def test_dynamic_schedule():
    """alpha moves iff `e < τ`; then `τ ← τ / 1.05^10`, else `τ ← 1.05 τ`."""
    strategy = training("darts_prime").task.strategy
    strategy.threshold, strategy.schedule, strategy.arch_start = 1.0, "dynamic", 3
    mean, threshold, due, moves = None, 1.0, False, []
    for update in range(1, 60):
        moves.append(strategy.moves_alpha(update - 1))
        assert moves[-1] == (due and update - 1 >= 3)
        norm = 3 * 0.95**update
        optimizer = SimpleNamespace(optimizer=SimpleNamespace(gradient_norm=torch.tensor(norm)))
        strategy.after_update(nn.Module(), optimizer, update)
        mean = norm**2 if mean is None else 0.2 * norm**2 + 0.8 * mean
        if update >= 3:
            due = mean < threshold
            threshold *= 1.05**-10 if due else 1.05
        assert strategy.threshold == pytest.approx(threshold)
    assert 5 < sum(moves) < 30


def test_policy_gradient():
    """`(L - b) ∇ log p(z)`; the baseline b is a running mean of L."""
    made = training("prune_then_search")
    strategy, coders = made.task.strategy, searched_stacks(made.model)
    policies = {stack: coder.alpha.detach().softmax(-1) for stack, coder in coders.items()}
    for update, baseline in enumerate((None, 2.5, 4.0)):
        strategy.baseline, strategy.losses = baseline, [torch.tensor([30.0, 10.0])]
        for coder in coders.values():
            coder.alpha.grad = None
        strategy._reinforce(made.model, update)
        drawn = strategy.mixtures(made.model, (ALPHA,), update)
        for stack, coder in coders.items():
            hot = drawn[stack].weights.detach()
            assert ((hot == 0) | (hot == 1)).all() and (hot.sum(-1) == 1).all()
            advantage = 0.0 if baseline is None else 3.0 - baseline
            torch.testing.assert_close(coder.alpha.grad, advantage * (hot - policies[stack]))
        Policy.after_update(strategy, made.model, None, update + 1)
        expected = 3.0 if baseline is None else 0.9 * baseline + 0.3
        assert strategy.baseline == pytest.approx(expected)


def test_gradients_of_unas():
    """`∇L(ζ) + (L(d) - L(ζ)) ∇ log q(d)`, with `L = L_train + ½ |L_val - L_train|`."""
    made = training("unas")
    strategy, model = made.task.strategy, made.model
    train, valid = (made.batch(level, 3, 6) for level in (WEIGHTS, ALPHA))
    coders = searched_stacks(model)

    def loss(module, batch):
        return module(**batch["net_input"])[0].sin().sum(), batch["ntokens"]

    def both(value: Callable) -> float:
        first, second = (value(batch) for batch in (train, valid))
        return first + 0.5 * abs(second - first)

    def soft() -> float:
        return both(lambda batch: float(strategy.mean_loss(model, [batch], (ALPHA,), 0)[0]))

    strategy.loss = loss
    found = strategy.alpha_gradients(model, [train], [valid], 0)
    zeta = strategy.mixtures(model, (ALPHA,), 0)
    best = {stack: weights.argmax(-1) for stack, weights in zeta.items()}
    with chosen(model, {stack: indices.tolist() for stack, indices in best.items()}):
        hard = both(lambda batch: float(loss(model, batch)[0]) / batch["ntokens"])
    difference = hard - soft()
    assert abs(difference) > 1e-3
    for (stack, coder), grad in zip(coders.items(), found, strict=True):
        alpha = coder.alpha.detach()
        log = one_hot(best[stack], alpha.size(-1)) - alpha.softmax(-1)
        direction, step, values = torch.randn_like(alpha), 1e-5, []
        for sign in (1, -1):
            coder.alpha.data.add_(sign * step * direction)
            values.append(soft())
            coder.alpha.data.sub_(sign * step * direction)
        numeric = (values[0] - values[1]) / (2 * step)
        wanted = numeric + difference * float((log * direction).sum())
        assert float((grad * direction).sum()) == pytest.approx(wanted, rel=1e-5, abs=1e-8)
