"""Properties of the output of every kind of network, and quantised networks."""

import pytest
import torch
from helpers.models import (
    batch,
    build_darts,
    build_derived,
    build_evolved,
    build_search,
    every_operation_once,
    step_by_step,
    uniform_genotype,
)
from helpers.output_checks import OUTPUT_CHECKS

from fairseq_dartsformer.operations import DECODER_OPERATIONS

POOLINGS = ["max", "avg"]
SPLITS = [2, 3, 4]

# Each operation by itself in a derived model, all of them in supernets, and all of them spread over
# a derived model; and the baseline.
CASES = [
    *[(f"supernet {n} {p}", n, p, None) for n in SPLITS for p in POOLINGS],
    *[(f"derived {n} {p} all", n, p, "all") for n in SPLITS for p in POOLINGS],
    ("darts supernet", 1, None, None),
    ("darts derived all", 1, None, "all"),
    ("evolved", 1, None, "evolved"),
    *[
        (f"derived {n} {o}", n, p, o)
        for o in DECODER_OPERATIONS
        for n, p in ((2, "max"), (3, "avg"))
    ],
]


@pytest.fixture(params=CASES, ids=[case[0] for case in CASES])
def model(request):
    _, splits, pooling, operation = request.param
    torch.manual_seed(splits)
    if operation is None:
        # Kernels 15 wide and sharp alphas, so that every candidate matters.
        if pooling is None:
            built = build_darts(hidden_dim=120)
        else:
            built = build_search(encoder_splits=splits, hidden_dim=120, pooling=pooling)
        for stack in (built.encoder, built.decoder):
            torch.nn.init.normal_(stack.alpha)
    elif operation == "evolved":
        built = build_evolved(encoder_layers=4, decoder_layers=4)
        for parameter in built.parameters():  # biases, too
            torch.nn.init.normal_(parameter, std=0.3)
    elif operation == "all":
        genotype = every_operation_once(splits, pooling)
        layers = {"encoder_layers": len(genotype.encoder), "decoder_layers": len(genotype.decoder)}
        built = build_derived(genotype, hidden_dim=120, **layers)
    else:
        built = build_derived(uniform_genotype(operation, splits, pooling), hidden_dim=24)
    return built.double().eval()


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
    quantised = torch.ao.quantization.quantize_dynamic(model.eval(), {torch.nn.Linear})
    assert {p.dtype for p in quantised.parameters()} == {torch.float32}
    assert sum(1 for _ in quantised.parameters()) < sum(1 for _ in model.parameters())
    net = batch([5, 9])
    real = net["prev_output_tokens"].ne(1)
    exact, found = model(**net)[0][real], quantised(**net)[0][real]
    steps = step_by_step(quantised, net["src_tokens"], net["prev_output_tokens"])[real]
    for logits in (found, steps):
        assert (logits - exact).norm() < 0.1 * exact.norm()
