"""Reconstruction: its inputs, gradients, dropout masks and memory."""

import statistics
from functools import partial

import pytest
import torch
from helpers.gradients import assert_same_gradients, gradients
from helpers.models import (
    RATES,
    batch,
    build_derived,
    build_lm,
    build_search,
    coders,
    every_operation_once,
    logits,
)
from torch import nn

from fairseq_dartsformer.memory.measurement import measured_peak
from fairseq_dartsformer.operations import (
    DECODER_OPERATIONS,
    Context,
    OperationConfig,
    build_operation,
)
from fairseq_dartsformer.reversible import (
    ReversibleLayer,
    ReversibleStack,
    coupling,
    reconstructing_forward,
)
from fairseq_dartsformer.search_space.alpha import new_alpha
from fairseq_dartsformer.search_space.mixed_op import MixedOp
from fairseq_dartsformer.search_space.relaxation import softmax

GRID = [(n, pooling) for n in (2, 3, 4) for pooling in ("max", "avg")]
GRID.remove((2, "avg"))  # of two splits nothing is pooled


def build_stack(
    layers: int,
    splits: int,
    pooling: str,
    width: int = 24,
    names: tuple[str, ...] = DECODER_OPERATIONS,
    dropout: float = 0.0,
) -> ReversibleStack:
    cfg = OperationConfig(width // splits, width, 2 * width, 2, causal=True, dropout=dropout)

    def layer() -> ReversibleLayer:
        nodes = (MixedOp(build_operation(name, cfg) for name in names) for _ in range(splits))
        return ReversibleLayer(nodes, pooling)

    return ReversibleStack((layer() for _ in range(layers)), "reconstruct")


@pytest.mark.parametrize("text", [False, True], ids=["translation", "text"])
@pytest.mark.parametrize(("splits", "pooling"), GRID)
def test_gradients_equal_ordinary_autograd(splits, pooling, text):
    """Of one forward pass, and of two with shared embeddings."""
    torch.manual_seed(splits)
    shared = pooling == "avg"
    options = {"hidden_dim": 120, "pooling": pooling, "decoder_layers": 4}  # two blocks share alpha
    if text:
        options |= {"decoder_splits": splits, "share_decoder_input_output_embed": shared}
    else:
        options |= {"encoder_splits": splits, "share_all_embeddings": shared, "encoder_layers": 4}
    model = (build_lm if text else build_search)(**options).double()
    for coder in coders(model):
        nn.init.normal_(coder.alpha)
    found = [gradients(model, b, passes=1 + shared) for b in ("store", "reconstruct")]
    assert_same_gradients(*found)


@pytest.mark.parametrize(
    ("dtype", "autocast", "splits", "pooling"),
    [
        (torch.float16, None, 2, "max"),
        (torch.float32, torch.bfloat16, 3, "avg"),
    ],
    ids=["float16", "autocast"],
)
def test_half_precision_through_24_layers(dtype, autocast, splits, pooling):
    """As near to a float32 network's gradients as ordinary autograd in half precision is.

    The two add up in different orders, which half precision may amplify in a network by chance.
    """
    ratios = []
    for seed in range(3):
        torch.manual_seed(seed)
        model = build_search(
            encoder_splits=splits,
            hidden_dim=48,
            pooling=pooling,
            encoder_layers=24,
            decoder_layers=24,
            encoder_operations="conv_3,dynamic_conv_3,self_attention,ffn",
            decoder_operations="self_attention,cross_attention,glu,identity",
            **dict.fromkeys(RATES, 0.0),
        ).to(dtype)
        found = [gradients(model, b, autocast=autocast) for b in ("store", "reconstruct")]
        exact = gradients(model.float(), "store")
        stored, reconstructed = (
            sum(float((half[name].float() - g).square().sum()) for name, g in exact.items())
            for half in found
        )
        assert stored < sum(float(g.square().sum()) for g in exact.values())
        ratios.append((reconstructed / stored) ** 0.5)
    assert statistics.median(ratios) < 1.05


def test_gradients_of_one_level_alone():
    """torch.autograd.grad for alpha, and weights that take no gradient."""
    model = build_search(hidden_dim=120).double()
    alphas = [model.encoder.alpha, model.decoder.alpha]
    for name, parameter in model.named_parameters():
        parameter.requires_grad_("alpha" in name)
    found = {}
    for backprop in ("store", "reconstruct"):
        model.encoder.stack.backprop = model.decoder.stack.backprop = backprop
        torch.manual_seed(3)
        loss = model(**batch([3, 9, 6]))[0].pow(2).mean()
        found[backprop] = dict(enumerate(torch.autograd.grad(loss, alphas)))
    assert_same_gradients(found["store"], found["reconstruct"])


@pytest.mark.parametrize(
    ("splits", "pooling", "chosen"),
    [(2, "max", None), (3, "avg", None), (2, "max", "identity"), (3, "avg", "ffn")],
)
def test_two_backward_passes_of_one_graph(splits, pooling, chosen):
    """Both are ordinary autograd's; gradients change in place, but not those of others."""
    stack = build_stack(3, splits, pooling, dropout=0.2).double()
    mixtures = torch.rand(1, splits, len(DECODER_OPERATIONS)).double().softmax(-1)
    if chosen is not None:
        mixtures = [[DECODER_OPERATIONS.index(chosen)] * splits]
    x, encoder_out = torch.randn(2, 5, 3, 24, dtype=torch.float64).requires_grad_().unbind()
    grad, found = torch.randn_like(x), {}
    for stack.backprop in ("store", "reconstruct"):
        torch.manual_seed(0)
        y = stack(x, mixtures, Context(encoder_out))
        inputs = [x, *(p for p in stack.parameters() if chosen is None)]
        given = grad.clone()
        found[stack.backprop] = [
            dict(enumerate(torch.autograd.grad(y, inputs, given, retain_graph=True)))
            for _ in range(2)
        ]
        assert torch.equal(given, grad)
    for reconstructed in found["reconstruct"]:
        assert_same_gradients(found["store"][0], reconstructed)


def test_parameters_must_not_change_before_the_backward_pass():
    stack = build_stack(1, 2, "max")
    weights = torch.rand(1, 2, len(DECODER_OPERATIONS)).softmax(-1)
    y = stack(torch.randn(5, 3, 24, requires_grad=True), weights, Context(torch.randn(4, 3, 24)))
    with torch.no_grad():
        next(stack.parameters()).add_(1.0)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()


def test_shared_and_repeated_use_in_one_graph():
    """A stack applied to its own output: every gradient is the sum over both uses."""
    stack = build_stack(2, 2, "max", dropout=0.2).double()
    alpha = nn.Parameter(torch.randn(1, 2, len(DECODER_OPERATIONS), dtype=torch.float64))
    x, encoder_out = torch.randn(2, 5, 3, 24, dtype=torch.float64).requires_grad_().unbind()
    inputs = [x, encoder_out, alpha, *stack.parameters()]
    found = {}
    for stack.backprop in ("store", "reconstruct"):
        torch.manual_seed(0)
        weights = softmax(alpha)
        y = stack(stack(x, weights, Context(encoder_out)), weights, Context(encoder_out))
        found[stack.backprop] = dict(enumerate(torch.autograd.grad(y.pow(2).sum(), inputs)))
    assert_same_gradients(found["store"], found["reconstruct"])


@pytest.mark.parametrize(("splits", "pooling"), GRID)
def test_reconstruction_through_24_layers(splits, pooling):
    """In float32, at initialisation, each number within 1e-6 of the input's root mean square."""
    torch.manual_seed(splits)
    stack = build_stack(24, splits, pooling, width=120, dropout=0.1)
    weights = softmax(new_alpha(1, splits, len(DECODER_OPERATIONS)))[0]
    x, encoder_out = torch.randn(2, 10, 4, 120)
    reconstruction = torch.zeros_like(x).requires_grad_()
    y = reconstructing_forward(
        stack.layers, x, [weights] * 24, Context(encoder_out), range(24), reconstruction
    )
    y.sum().backward()
    assert (reconstruction.grad - x).abs().max() <= 1e-6 * x.pow(2).mean().sqrt()


def derived(backprop: str, text: bool = False) -> nn.Module:
    return build_derived(every_operation_once(2, "max", text), backprop=backprop, hidden_dim=120)


@pytest.mark.parametrize("backprop", ["store", "reconstruct"])
@pytest.mark.parametrize(
    "build",
    [
        derived,
        partial(derived, text=True),
        *(
            lambda b, build=build: build(backprop=b, hidden_dim=120)
            for build in (build_search, build_lm)
        ),
    ],
)
def test_same_masks_with_and_without_gradients(build, backprop):
    model, found = build(backprop).train(), []
    for mode in (torch.enable_grad, torch.no_grad):
        torch.manual_seed(1)
        with mode():
            found.append((logits(model, batch([5, 8])).detach(), torch.get_rng_state()))
    torch.testing.assert_close(found[0][0], found[1][0], rtol=0, atol=1e-4)
    assert torch.equal(found[0][1], found[1][1])
    assert not torch.equal(logits(model, batch([5, 8])), found[0][0]), "there is dropout"


def test_ordinary_training_of_a_derived_model_seeds_nothing(monkeypatch):
    """Only a comparison with reconstruction needs its seeds."""
    seeds = []
    monkeypatch.setattr(coupling, "seed_generators", lambda seed, device: seeds.append(seed))
    derived("store").train()(**batch([5]))[0].sum().backward()
    assert not seeds
    build_search(backprop="store").train()(**batch([5]))[0].sum().backward()
    assert len(seeds) == len(set(seeds)) > 0


def activation_memory(layers: int, names: tuple[str, ...]) -> int:
    """Peak bytes of a forward and backward pass beyond parameters and gradients."""
    stack = build_stack(layers, 2, "max", width=64, names=names, dropout=0.1)
    alpha = new_alpha(1, 2, len(names))
    x = torch.randn(40, 32, 64, requires_grad=True)
    encoder_out = torch.randn(40, 32, 64, requires_grad=True)
    leaves = [x, encoder_out, alpha, *stack.parameters()]

    def step():
        stack(x, softmax(alpha), Context(encoder_out)).sum().backward()

    step()
    for leaf in leaves:
        leaf.grad = None
    return measured_peak(step) - sum(leaf.numel() * leaf.element_size() for leaf in leaves)


def test_memory_grows_with_neither_candidates_nor_depth():
    few = ("ffn", "cross_attention", "dynamic_conv_15", "conv_11")
    assert set(few) < set(DECODER_OPERATIONS)
    four, all_of_them = (activation_memory(4, names) for names in (few, DECODER_OPERATIONS))
    assert all_of_them <= 1.15 * four
    assert activation_memory(12, DECODER_OPERATIONS) <= 1.05 * all_of_them
