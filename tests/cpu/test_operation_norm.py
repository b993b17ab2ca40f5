"""``--operation-norm``: three places of the norm in an operation, and what networks compute."""

from dataclasses import replace
from functools import cache
from random import Random
from typing import Any

import pytest
import torch
from helpers.gradients import assert_same_gradients, gradients
from helpers.models import (
    build_darts,
    build_derived,
    build_search,
    every_operation_once,
    inheriting,
    step_by_step,
    uniform_genotype,
)
from helpers.output_checks import OUTPUT_CHECKS
from helpers.snapshots import search_state
from torch import Tensor, nn
from torch.nn import functional as F

from fairseq_dartsformer.errors import InputError
from fairseq_dartsformer.models.reconstruction_check import warn_of_growth
from fairseq_dartsformer.operations import (
    DECODER_OPERATIONS,
    NORMS,
    Context,
    OperationConfig,
    build_operation,
)
from fairseq_dartsformer.search.snapshot import derive, snapshot_of
from fairseq_dartsformer.search_space.families import DARTS_TRANSFORMER, DARTSFORMER
from fairseq_dartsformer.search_space.genotype import BUILTIN
from fairseq_dartsformer.search_space.sampling import chosen, draw

FIG4 = BUILTIN["paper_fig4_approx"]
OTHERS = ["pre", "pre-bare"]
GRID = [(2, "max"), (3, "max"), (3, "avg")]  # splits; with 2, nothing is pooled
each_norm = pytest.mark.parametrize("norm", NORMS)


def operation(name: str, norm: str, dropout: float = 0.0) -> nn.Module:
    """An operation as a decoder has it, in float64, no parameter at its initial value."""
    cfg = OperationConfig(
        channels=12,
        encoder_dim=20,
        ffn_dim=18,
        attention_heads=3,
        causal=True,
        dropout=dropout,
        norm=norm,
    )
    built = build_operation(name, cfg).double()
    for parameter in built.parameters():
        nn.init.normal_(parameter)
    return built


@each_norm
@pytest.mark.parametrize("name", DECODER_OPERATIONS)
def test_formula(name, norm):
    """Zero and identity have neither residual nor norm; names of parameters are always the same."""
    built = operation(name, norm)
    assert built.state_dict().keys() == operation(name, "post").state_dict().keys()
    x, context = torch.randn(5, 2, 12).double(), Context(torch.randn(7, 2, 20).double())
    if name in ("zero", "identity"):
        assert torch.equal(built(x, context), x if name == "identity" else torch.zeros_like(x))
        return

    def ln(x: Tensor) -> Tensor:
        return F.layer_norm(x, (12,), built.layer_norm.weight, built.layer_norm.bias)

    def o(x: Tensor) -> Tensor:
        return built.operation(x, context)

    expected = {"post": ln(x + o(x)), "pre": x + o(ln(x)), "pre-bare": o(ln(x))}[norm]
    torch.testing.assert_close(built(x, context), expected, rtol=0, atol=1e-12)


@each_norm
def test_dropout_is_that_of_the_operation(norm):
    """Where all is dropped, the residual and the norm of the input are left."""
    built = operation("ffn", norm, dropout=1 - 1e-12).train()
    x = torch.randn(5, 2, 12).double()
    ln = F.layer_norm(x, (12,), built.layer_norm.weight, built.layer_norm.bias)
    expected = {"post": ln, "pre": x, "pre-bare": torch.zeros_like(x)}[norm]
    torch.testing.assert_close(built(x, Context()), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("norm", OTHERS)
def test_shape_is_checked(norm):
    built = operation("ffn", norm)
    built.operation = nn.Identity()
    built.operation.forward = lambda x, *_: x[:1]
    with pytest.raises(InputError, match="operation ffn returned"):
        built(torch.randn(5, 2, 12).double(), Context())


def supernet(norm: str, splits: int, pooling: str) -> nn.Module:
    """A supernet of all operations with sharp alphas, so that each matters somewhere."""
    torch.manual_seed(splits)
    built = build_search(
        encoder_splits=splits, pooling=pooling, hidden_dim=120, operation_norm=norm
    ).double()
    for stack in (built.encoder, built.decoder):
        nn.init.normal_(stack.alpha)
    return built


@pytest.mark.parametrize("norm", OTHERS)
@pytest.mark.parametrize(("splits", "pooling"), GRID)
def test_gradients_of_a_supernet(norm, splits, pooling):
    """Reconstruction gives the gradients of ordinary autograd, with dropout, in float64."""
    model = supernet(norm, splits, pooling)
    assert_same_gradients(gradients(model, "store"), gradients(model, "reconstruct"))


@each_norm
@pytest.mark.parametrize(("splits", "pooling"), GRID)
@pytest.mark.parametrize("name", DECODER_OPERATIONS)
def test_gradients_of_one_operation(name, norm, splits, pooling):
    torch.manual_seed(1)
    genotype = replace(uniform_genotype(name, splits, pooling), norm=norm)
    options = {"encoder_layers": 3, "decoder_layers": 3, "hidden_dim": 120}
    model = build_derived(genotype, backprop="reconstruct", **options).double()
    # With biases of zero, a dropped output can be the same zero as another split. The gradient of
    # a maximum of equal numbers is ambiguous, and reconstruction is exact only up to rounding.
    for parameter in model.parameters():
        if parameter.dim() == 1:
            nn.init.normal_(parameter, std=0.3)
    assert_same_gradients(gradients(model, "store"), gradients(model, "reconstruct"))


@cache
def networks(norm: str, splits: int, pooling: str | None) -> tuple[nn.Module, nn.Module]:
    """A supernet and a derived model of all operations; without a pooling, of a Transformer."""
    if pooling is None:
        torch.manual_seed(0)
        mixed = build_darts(hidden_dim=120, operation_norm=norm).double()
    else:
        mixed = supernet(norm, splits, pooling)
    genotype = replace(every_operation_once(splits, pooling), norm=norm)
    return mixed.eval(), build_derived(genotype, hidden_dim=120).double().eval()


@torch.no_grad()
@pytest.mark.parametrize("check", OUTPUT_CHECKS)
@pytest.mark.parametrize(
    ("norm", "splits", "pooling"),
    [*((norm, *setting) for norm in OTHERS for setting in GRID), ("pre", 1, None)],
)
def test_output(norm, splits, pooling, check):
    """Causality, padding, step-by-step decoding of the supernet and of the derived model; with the
    norm behind the operation, see test_models.py."""
    for model in networks(norm, splits, pooling):
        OUTPUT_CHECKS[check](model)


NET = {
    "src_tokens": torch.randint(4, 30, (2, 7)),
    "src_lengths": torch.tensor([7, 7]),
    "prev_output_tokens": torch.randint(4, 30, (2, 6)),
}


def state_of(model: nn.Module, family: str, **options: Any) -> dict[str, Any]:
    """What fairseq saves of a supernet."""
    state = search_state(_name=f"{family}_search", **options)
    return state | {"model": model.state_dict()}


@torch.no_grad()
@pytest.mark.parametrize(
    ("family", "norm", "splits", "pooling"),
    [
        *((DARTSFORMER, norm, *setting) for norm in NORMS for setting in GRID),
        *((DARTS_TRANSFORMER, norm, 2, None) for norm in DARTS_TRANSFORMER.norms),
    ],
    ids=str,
)
def test_derived_model_is_the_supernet(family, norm, splits, pooling):
    """From the checkpoint of a search, at a choice to the last bit."""
    torch.manual_seed(splits)
    options = {"operation_norm": norm, "hidden_dim": 120}
    if family is DARTSFORMER:
        options |= {"pooling": pooling, "encoder_splits": splits}
    model = (build_search if family is DARTSFORMER else build_darts)(**options).double().eval()
    snapshot = snapshot_of(
        state_of(model, family.name, splits=splits, pooling=pooling, operation_norm=norm), "c.pt"
    )
    assert snapshot.norm == derive(snapshot).norm == norm
    choice = draw(model, Random(1))
    genotype = snapshot.genotype(choice)
    derived = inheriting(model, snapshot, genotype, hidden_dim=120)
    with chosen(model, choice):
        logits = model(**NET)[0]
        steps = step_by_step(model, NET["src_tokens"], NET["prev_output_tokens"])
    assert torch.equal(derived(**NET)[0], logits)
    torch.testing.assert_close(steps, logits, rtol=0, atol=1e-10)
    other = inheriting(model, snapshot, replace(genotype, norm="post"), hidden_dim=120)
    assert torch.equal(other(**NET)[0], logits) == (norm == "post")


@each_norm
def test_a_norm_closes_each_stack(norm):
    """Whatever the scale of the stream."""
    model = build_derived(replace(FIG4, norm=norm), dropout=0.0).double().eval()
    seen = []
    for coder in (model.encoder, model.decoder):
        coder.stack.register_forward_hook(lambda module, given, out: 1000 * out)
        coder.layer_norm.register_forward_hook(lambda module, given, out: seen.append(out))
    model(**NET)
    for out in seen:
        torch.testing.assert_close(out.square().mean(-1), torch.ones_like(out[..., 0]))
    assert len(seen) == 2


@pytest.mark.parametrize("layers", [14, 16])
@pytest.mark.parametrize("backprop", ["reconstruct", "store"])
@each_norm
def test_deep_growth_is_reported_once(norm, backprop, layers, caplog):
    warn_of_growth.cache_clear()
    options = {"encoder_layers": layers, "hidden_dim": 24, "backprop": backprop}
    build_search(operation_norm=norm, **options)
    build_derived(replace(FIG4, norm=norm), **options)
    found = [r for r in caplog.records if "--operation-norm pre makes the stream" in r.message]
    wrong = norm == "pre" and backprop == "reconstruct" and layers == 16
    assert len(found) == (1 if wrong else 0)
