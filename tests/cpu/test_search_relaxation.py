"""Relaxations, penalties, pruned candidates, and single candidates with a weight."""

import math
from functools import partial

import pytest
import torch
from helpers.models import batch, build_darts, build_search
from torch import Tensor
from torch.distributions import Dirichlet, kl_divergence

from fairseq_dartsformer.reversible.coupling import Partial
from fairseq_dartsformer.search.penalties import PENALTIES, costs, parameters
from fairseq_dartsformer.search.pruning import keep_best
from fairseq_dartsformer.search_space import relaxation as r
from fairseq_dartsformer.search_space.sampling import chosen, searched_node, searched_stacks

SHAPE = (2, 3, 5)
RELAXATIONS = {
    "softmax": r.softmax,
    "clamp": r.clamp,
    "dirichlet_mean": r.dirichlet_mean,
    "gumbel_softmax": partial(r.gumbel_softmax, temperature=0.7),
}


def alphas(low: float = 0.1, high: float = 0.9) -> Tensor:
    torch.manual_seed(1)
    return (low + (high - low) * torch.rand(SHAPE, dtype=torch.double)).requires_grad_()


def some() -> Tensor:
    """A mask that keeps two to four candidates of each node."""
    mask = torch.ones(SHAPE, dtype=torch.bool)
    mask[..., 0] = False
    mask[1, :, 3:] = False
    return mask


@pytest.mark.parametrize("mask", [None, some()], ids=["all", "pruned"])
@pytest.mark.parametrize("name", RELAXATIONS)
def test_relaxation_has_its_derivatives(name, mask):
    def weights(alpha: Tensor) -> Tensor:
        with r.drawing("once"):
            return RELAXATIONS[name](alpha, mask)

    assert torch.autograd.gradcheck(weights, alphas())
    found = weights(alphas())
    if mask is not None:
        assert not found[~mask].any()
    if name != "clamp":
        assert torch.allclose(found.sum(-1), torch.ones(SHAPE[:2], dtype=torch.double))


def test_dirichlet_samples_have_pathwise_derivatives():
    """The derivative of a mean over samples is that of the expectation."""
    alpha = alphas()
    with r.drawing("many"):
        samples = torch.stack([r.dirichlet(alpha, some()) for _ in range(4000)])
    expected = r.dirichlet_mean(alpha, some())
    assert (samples.mean(0) - expected).abs().max() < 0.03
    found, wanted = (torch.autograd.grad(w[0, 0, 1], alpha)[0] for w in (samples.mean(0), expected))
    assert (found - wanted).abs().max() < 0.03


def test_samples_follow_the_occasion():
    alpha = alphas()

    def draw(occasion: str) -> Tensor:
        with r.drawing(occasion):
            return r.gumbel_softmax(alpha, None, 0.5)

    before = torch.random.get_rng_state()
    assert torch.equal(draw("1 update 3"), draw("1 update 3"))
    assert not torch.equal(draw("1 update 3"), draw("1 update 4"))
    assert torch.equal(before, torch.random.get_rng_state())


def test_single_candidates_have_weight_one():
    """With the derivatives of the relaxed weight, or of the logarithm of its probability."""
    alpha = alphas()
    soft = r.gumbel_softmax(alpha, some(), 0.5)
    found = r.straight_through(soft)
    index = torch.tensor(found.active)
    assert torch.equal(index, soft.argmax(-1, keepdim=True))
    assert (found.weights.gather(-1, index) == 1).all() and found.weights.count_nonzero() == 6
    for k in range(3):
        (weight,) = found.active[0][k]
        ours = torch.autograd.grad(found.weights[0, k, weight], alpha, retain_graph=True)[0]
        theirs = torch.autograd.grad(soft[0, k, weight], alpha, retain_graph=True)[0]
        assert torch.equal(ours, theirs)

    scored = r.score_function(alpha, some())
    (weight,) = scored.active[1][2]
    assert scored.weights[1, 2, weight] == 1 and some()[1, 2, weight]
    ours = torch.autograd.grad(scored.weights[1, 2, weight], alpha)[0]
    theirs = torch.autograd.grad(r.logits(alpha, some())[1, 2, weight], alpha)[0]
    torch.testing.assert_close(ours, theirs)


def test_score_function_draws_by_probability():
    alpha = alphas(-1, 1)[:1, :1]
    with r.drawing("many"):
        drawn = [r.score_function(alpha).active[0][0][0] for _ in range(3000)]
    shares = torch.bincount(torch.tensor(drawn), minlength=5) / len(drawn)
    assert (shares - r.softmax(alpha)[0, 0]).abs().max() < 0.04


# --- in a supernet -------------------------------------------------------------------------------


def part(supernet, kind: str) -> dict[str, Partial]:
    """A mixture of some candidates of each node, whose weights depend on alpha."""
    found = {}
    for stack, coder in searched_stacks(supernet).items():
        with r.drawing(stack):
            if kind == "one":
                found[stack] = r.score_function(coder.alpha)
                continue
            keep_best(coder, 0.3)
            found[stack] = coder.mix(r.gumbel_softmax(coder.alpha, coder.mask, 1.0))
            coder.keep(torch.ones_like(coder.remaining))
    return found


def loss_gradients(supernet, mixtures) -> tuple[Tensor, dict]:
    torch.manual_seed(5)
    with chosen(supernet, mixtures(supernet)):
        out = supernet(**batch([3, 9, 6]))[0]
    loss = out.sin().sum()
    named = dict(supernet.named_parameters())
    found = torch.autograd.grad(loss, list(named.values()), allow_unused=True)
    return loss.detach(), {n: g for n, g in zip(named, found, strict=True) if g is not None}


@pytest.mark.parametrize("kind", ["one", "some"])
@pytest.mark.parametrize("pooling", ["max", "avg"])
@pytest.mark.parametrize("splits", [2, 3])
def test_some_candidates_reconstruct_exactly(splits, pooling, kind):
    """As with stored activations, dropout on, in float64; what does not run has no gradient."""
    options = {"encoder_splits": splits, "pooling": pooling}
    losses, grads = [], []
    for backprop in ("reconstruct", "store"):
        torch.manual_seed(3)
        supernet = build_search(backprop=backprop, **options).double().train()
        loss, found = loss_gradients(supernet, partial(part, kind=kind))
        losses.append(loss)
        grads.append(found)
    torch.testing.assert_close(*losses, rtol=0, atol=1e-9)
    assert grads[0].keys() == grads[1].keys()
    for name in grads[0]:
        assert (grads[0][name] - grads[1][name]).abs().max() < 1e-9, name
    assert grads[0]["encoder.alpha"].abs().max() > 1e-6
    assert len(grads[0]) < len(dict(supernet.named_parameters())) * (0.5 if kind == "one" else 0.7)


@pytest.mark.parametrize("build", [build_search, build_darts])
def test_one_candidate_is_the_weighted_choice(build):
    """It computes what the choice without a weight does; the weight's gradient is `<g, o(h)>`."""
    torch.manual_seed(3)
    supernet = build().double().eval()
    drawn = part(supernet, "one")
    choice = {s: [[row[0] for row in layer] for layer in p.active] for s, p in drawn.items()}
    with chosen(supernet, choice):
        plain = supernet(**batch([3, 9, 6]))[0]
    with chosen(supernet, drawn):
        weighted = supernet(**batch([3, 9, 6]))[0]
    assert torch.equal(plain, weighted)
    index = (0, 0, choice["encoder"][0][0])
    step, values = 1e-5, []
    (grad,) = torch.autograd.grad(weighted.sin().sum(), drawn["encoder"].weights)
    for sign in (1, -1):
        moved = drawn["encoder"].weights.detach().clone()
        moved[index] += sign * step
        with chosen(supernet, drawn | {"encoder": Partial(moved, drawn["encoder"].active)}):
            values.append(supernet(**batch([3, 9, 6]))[0].sin().sum().item())
    numeric = (values[0] - values[1]) / (2 * step)
    assert grad[index].item() == pytest.approx(numeric, rel=1e-5, abs=1e-8)


@pytest.mark.parametrize("build", [build_search, build_darts])
def test_pruned_candidates_neither_run_nor_return(build):
    torch.manual_seed(3)
    supernet = build().double().train()
    for coder in searched_stacks(supernet).values():
        keep_best(coder, 0.3)
        count = math.ceil(0.3 * coder.alpha.size(-1))
        assert (coder.remaining.sum(-1) == count).all()
        smallest = coder.alpha.masked_fill(~coder.remaining, math.inf).amin(-1, keepdim=True)
        assert (coder.alpha.masked_fill(coder.remaining, -math.inf) <= smallest).all()
        calls = []
        for layer in coder.stack.layers:
            for node in (node for node in layer.nodes if len(node) > 1):
                for operation in node:
                    operation.register_forward_hook(lambda *_, c=calls: c.append(1))
        coder.calls = calls
    out = supernet(**batch([3, 9, 6]))[0]
    for coder in searched_stacks(supernet).values():
        per_layer = sum(map(len, coder.active[0]))
        assert len(coder.calls) == per_layer * len(coder.stack.layers)
    out.sum().backward()
    encoder = supernet.encoder
    assert not encoder.alpha.grad[~encoder.remaining].any()
    assert encoder.alpha.grad[encoder.remaining].any()

    other = build().double()
    other.load_state_dict(supernet.state_dict())
    assert other.encoder.active == encoder.active
    whole = build().double()
    assert "encoder.remaining" not in whole.state_dict()
    other.load_state_dict(whole.state_dict())
    assert other.encoder.active is None


def test_pruning_keeps_what_can_be_derived():
    """The best candidate that is not excluded, even if all others have larger alphas."""
    torch.manual_seed(3)
    supernet = build_search()
    for coder in searched_stacks(supernet).values():
        torch.nn.init.normal_(coder.alpha)
        names = searched_node(coder).names
        exclude = names[:-2]
        with torch.no_grad():
            coder.alpha[..., : len(exclude)] += 100
        best = coder.alpha[..., -2:].argmax(-1) + len(exclude)
        for share in (0.5, 0.1):
            keep_best(coder, share, exclude)
            assert (coder.remaining.sum(-1) == math.ceil(share * len(names))).all()
            assert coder.remaining.gather(-1, best.unsqueeze(-1)).all()


@pytest.mark.parametrize("pruned", [False, True])
@pytest.mark.parametrize("name", PENALTIES)
def test_penalty_has_its_derivatives(name, pruned):
    torch.manual_seed(3)
    supernet = build_search().double()
    coders = searched_stacks(supernet)
    for coder in coders.values():
        torch.nn.init.normal_(coder.alpha)
        if pruned:
            keep_best(coder, 0.5)
    alpha = coders["encoder"].alpha

    def penalty(value: Tensor) -> Tensor:
        del coders["encoder"].alpha
        coders["encoder"].alpha = value
        return PENALTIES[name](coders, lambda: 0.4)

    assert torch.autograd.gradcheck(penalty, alpha.detach().clone().requires_grad_())
    (grad,) = torch.autograd.grad(penalty(copy := alpha.detach().clone().requires_grad_()), copy)
    assert grad[..., 1:].any() and not grad[~coders["encoder"].remaining].any()


def test_divergence_is_that_of_the_distributions():
    supernet = build_search()
    torch.nn.init.normal_(supernet.encoder.alpha)
    q = Dirichlet(r.concentration(supernet.encoder.alpha))
    expected = kl_divergence(q, Dirichlet(torch.ones_like(q.concentration))).sum()
    found = PENALTIES["flat_dirichlet"]({"encoder": supernet.encoder}, lambda: 1.0)
    torch.testing.assert_close(found, expected)


def test_costs_are_those_of_the_operations():
    supernet = build_search()
    found = costs(supernet.decoder, parameters)
    node = supernet.decoder.stack.layers[0].nodes[0]
    assert found.tolist() == [sum(p.numel() for p in o.parameters()) for o in node]
    flops = costs(supernet.decoder, PENALTIES["flops"].args[0])
    names = list(supernet.decoder.stack.layers[0].nodes[0])
    assert len(flops) == len(names) and (flops >= 0).all() and flops.max() > flops.min() == 0


def test_clamped_weights_are_shares_of_a_cost():
    """Alphas that all shrink make no cheaper architecture."""
    supernet = build_search()
    coders = searched_stacks(supernet)
    for coder in coders.values():
        torch.nn.init.zeros_(coder.alpha)
    expected = PENALTIES["parameters"](coders, lambda: 1.0)
    for coder in coders.values():
        coder.relaxation = r.clamp
        torch.nn.init.constant_(coder.alpha, 0.01)
    torch.testing.assert_close(PENALTIES["parameters"](coders, lambda: 1.0), expected)
