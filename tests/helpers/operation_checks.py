"""Properties of one registered operation, by its name."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from fairseq_dartsformer.memory.planner import plan_memory, training_config
from fairseq_dartsformer.operations import (
    OPERATIONS_BY_STACK,
    Context,
    OperationConfig,
    build_operation,
)
from helpers.gradients import assert_same_gradients, gradients
from helpers.models import SIZES, build_derived, build_search, uniform_genotype
from helpers.output_checks import OUTPUT_CHECKS

NETWORKS = ["supernet", "derived"]


def candidates(operation: str) -> dict[str, str]:
    """Options of a supernet: the operation among others, in the stacks that may have it."""
    others = {stack: ["conv_3", "zero"] for stack in OPERATIONS_BY_STACK}
    for stack, names in OPERATIONS_BY_STACK.items():
        others[stack][:0] = [operation] * (operation in names)
    return {f"{stack}_operations": ",".join(names) for stack, names in others.items()}


def build(network: str, operation: str) -> nn.Module:
    """A small network of the operation, in float64."""
    torch.manual_seed(1)
    if network == "supernet":
        built = build_search(encoder_splits=3, hidden_dim=120, **candidates(operation))
        for stack in (built.encoder, built.decoder):
            nn.init.normal_(stack.alpha)
    else:
        built = build_derived(uniform_genotype(operation, 3, "avg"))
    return built.double().eval()


def alone(operation: str, length: int = 7, sentences: int = 3) -> tuple[nn.Module, Tensor, Context]:
    """The operation as a decoder has it, an input `T × B × C` and a context."""
    torch.manual_seed(1)
    cfg = OperationConfig(40, encoder_dim=80, ffn_dim=60, attention_heads=2, causal=True)
    mask = torch.zeros(sentences, length, dtype=torch.bool)
    mask[0, -2:] = True
    encoder_out = torch.randn(length, sentences, 80)
    return (
        build_operation(operation, cfg),
        torch.randn(length, sentences, 40),
        Context(encoder_out, mask, mask),
    )


def check_output(operation: str, network: str, check: str) -> None:
    """Causality, padding, incremental decoding in a network of the operation."""
    with torch.no_grad():
        OUTPUT_CHECKS[check](build(network, operation))


def check_gradients(operation: str, splits: int, pooling: str) -> None:
    """Reconstruction gives the gradients of ordinary autograd."""
    torch.manual_seed(splits)
    options = {"encoder_splits": splits, "pooling": pooling, "hidden_dim": 120}
    model = build_search(**options, **candidates(operation)).double()
    assert_same_gradients(gradients(model, "store"), gradients(model, "reconstruct"))


@torch.no_grad()
def check_repeats(operation: str) -> None:
    """Equal inputs give equal bits; a kernel that does not is usually a GPU's."""
    built, x, context = alone(operation, length=50, sentences=40)
    for device in ["cpu", *["cuda"] * torch.cuda.is_available()]:
        built, x, *tensors = (t.to(device) for t in (built, x, *context))
        results = []
        for _ in range(5):
            torch.manual_seed(1)
            results.append(built(x, Context(*tensors)))
        assert all(torch.equal(results[0], result) for result in results)


def check_precision(operation: str, dtype: torch.dtype) -> None:
    """It computes in the dtype of its weights, near to float64's result."""
    built, x, context = alone(operation)
    results = []
    for precision in (dtype, torch.float64):  # which holds the rounded weights exactly
        built = built.eval().to(precision)
        cast = context._replace(encoder_out=context.encoder_out.to(dtype).to(precision))
        results.append(built(x.to(dtype).to(precision), cast))
        assert results[-1].dtype == precision
        built.zero_grad()
        results[-1].square().sum().backward()
        assert all(p.grad is None or p.grad.isfinite().all() for p in built.parameters())
    tolerance = 50 * torch.finfo(dtype).eps
    torch.testing.assert_close(results[0].double(), results[1], rtol=0, atol=tolerance)


def check_plan(operation: str) -> None:
    """The planner runs it on tensors without contents, so that it must not read any."""
    options = {"hidden_dim": 120, **candidates(operation)}
    sizes = {name: SIZES[name] for name in ("ffn_dim", "attention_heads", "encoder_layers")}
    words = [(f"--{k.replace('_', '-')}", str(v)) for k, v in {**sizes, **options}.items()]
    cfg = training_config("dartsformer_search_tiny", [word for pair in words for word in pair])
    assert plan_memory(cfg, vocabulary=50, sentences=3, length=7).activations > 0


CHECKS: dict[str, Callable[[str], None]] = {
    **{
        f"{check} {network}": partial(check_output, network=network, check=check)
        for network in NETWORKS
        for check in OUTPUT_CHECKS
    },
    "gradients 2 max": partial(check_gradients, splits=2, pooling="max"),
    "gradients 3 avg": partial(check_gradients, splits=3, pooling="avg"),
    "repeats": check_repeats,
    **{
        f"precision {dtype}": partial(check_precision, dtype=dtype)
        for dtype in (torch.float32, torch.bfloat16, torch.float16)
    },
    "plan": check_plan,
}
