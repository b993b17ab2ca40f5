"""Properties of the output of every kind of network, and quantised networks."""

from functools import partial

import pytest
import torch
from helpers.models import (
    batch,
    build_darts,
    build_darts_lm,
    build_derived,
    build_evolved,
    build_lm,
    build_search,
    coders,
    every_operation_once,
    step_by_step,
    uniform_genotype,
)
from helpers.output_checks import OUTPUT_CHECKS
from torch import nn

from fairseq_dartsformer.operations import DECODER_OPERATIONS


def supernet(build, splits: int | None = None, pooling: str | None = None) -> nn.Module:
    """A supernet with kernels 15 wide and sharp alphas, so that every candidate matters."""
    name = "decoder_splits" if build is build_lm else "encoder_splits"
    options = {} if splits is None else {name: splits, "pooling": pooling}
    built = build(hidden_dim=120, **options)
    for coder in coders(built):
        nn.init.normal_(coder.alpha)
    return built


# Supernets and derived models of all operations over splits and poolings; each operation by itself
# in a derived model; and the baselines.
GRID = [(2, "max"), (3, "avg"), (3, "max"), (4, "avg")]
BUILDERS = {
    **{f"supernet {n} {p}": partial(supernet, build_search, n, p) for n, p in GRID},
    "darts supernet": partial(supernet, build_darts),
    **{f"text supernet {n} {p}": partial(supernet, build_lm, n, p) for n, p in GRID[:2]},
    "text darts supernet": partial(supernet, build_darts_lm),
    **{
        f"{'text ' * text}derived {n} {p}": partial(
            build_derived, every_operation_once(n, p, text), hidden_dim=120
        )
        for n, p in GRID
        for text in (False, True)
    },
    "darts derived": partial(build_derived, every_operation_once(1, None)),
    "text darts derived": partial(build_derived, every_operation_once(1, None, True)),
    **{
        name: partial(build_derived, uniform_genotype(name, 3, "avg"))
        for name in DECODER_OPERATIONS
    },
    "evolved": partial(build_evolved, encoder_layers=4, decoder_layers=4),
}


@pytest.fixture(scope="module", params=BUILDERS)
def model(request):
    torch.manual_seed(0)
    built = BUILDERS[request.param]().double().eval()
    if request.param == "evolved":
        for parameter in built.parameters():  # biases, too
            nn.init.normal_(parameter, std=0.3)
    return built


@torch.no_grad()
@pytest.mark.parametrize("check", OUTPUT_CHECKS)
def test_output(model, check):
    OUTPUT_CHECKS[check](model)


@torch.no_grad()
@pytest.mark.parametrize("operation", [*DECODER_OPERATIONS, None])
def test_dynamic_quantisation(operation):
    """Linear maps in 8 bits; ``None`` is the Evolved Transformer."""
    torch.manual_seed(0)
    if operation is None:
        model = build_evolved()
    else:
        model = build_derived(uniform_genotype(operation, 2, "max"), hidden_dim=48)
    quantised = torch.ao.quantization.quantize_dynamic(model.eval(), {nn.Linear})
    assert {p.dtype for p in quantised.parameters()} == {torch.float32}
    assert sum(1 for _ in quantised.parameters()) < sum(1 for _ in model.parameters())
    net = batch([5, 9])
    real = net["prev_output_tokens"].ne(1)
    exact, found = model(**net)[0][real], quantised(**net)[0][real]
    steps = step_by_step(quantised, net["src_tokens"], net["prev_output_tokens"])[real]
    for logits in (found, steps):
        assert (logits - exact).norm() < 0.1 * exact.norm()
