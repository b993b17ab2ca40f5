"""What must hold of one operation: `average` of docs/extending, or one of another plugin.

``pytest tests/cpu/test_operation.py --user-dir FOLDER --operation NAME``; nothing else need be
installed for it but pytest. Widths are 8 to 40, and there are two heads.
"""

from collections.abc import Iterator

import pytest
import torch
from helpers.models import SIZES, build_derived, build_search, uniform_genotype
from helpers.plugins import registered
from test_models import (  # noqa: F401  they run here upon this module's models
    test_beams_may_be_reordered,
    test_decoder_is_causal,
    test_indifferent_to_batch_and_padding,
    test_step_by_step_equals_the_whole,
)
from test_reversible import assert_same_gradients, gradients
from torch import Tensor, nn

from fairseq_dartsformer.memory.planner import plan_memory, training_config
from fairseq_dartsformer.operations import (
    OPERATIONS_BY_STACK,
    Context,
    OperationConfig,
    build_operation,
)

NETWORKS = ["supernet", "derived 2 max", "derived 3 avg"]
CPU_AND_GPU = [
    "cpu",
    pytest.param(
        "cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
    ),
]


@pytest.fixture(scope="module", autouse=True)
def operation(pytestconfig: pytest.Config) -> Iterator[str]:
    """Its name."""
    name, folder = pytestconfig.getoption("--operation"), pytestconfig.getoption("--user-dir")
    with registered(folder):
        names = OPERATIONS_BY_STACK["decoder"]
        if name not in names:
            pytest.exit(f"--operation is {name!r}, --user-dir {folder} has {', '.join(names)}", 4)
        yield name


def candidates(operation: str) -> dict[str, str]:
    """Options of a supernet: the operation among others, where the stack may have it."""
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
        _, splits, pooling = network.split()
        built = build_derived(uniform_genotype(operation, int(splits), pooling), hidden_dim=24)
    return built.double().eval()


@pytest.fixture(params=NETWORKS)
def model(request, operation: str) -> nn.Module:
    return build(request.param, operation)


@pytest.mark.parametrize("pooling", ["max", "avg"])
@pytest.mark.parametrize("splits", [2, 3])
def test_gradients_equal_ordinary_autograd(operation, splits, pooling):
    torch.manual_seed(splits)
    options = {"encoder_splits": splits, "pooling": pooling, "hidden_dim": 120}
    model = build_search(**options, **candidates(operation)).double()
    assert_same_gradients(gradients(model, "store"), gradients(model, "reconstruct"))


def alone(operation: str, length: int = 7, sentences: int = 3) -> tuple[nn.Module, Tensor, Context]:
    """The operation as a decoder has it, an input `T × B × C` and what it sees beside it."""
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


@torch.no_grad()
@pytest.mark.parametrize("device", CPU_AND_GPU)
def test_same_result_when_run_again(operation, device):
    """To the last bit; kernels that are not so are those of GPUs, as a rule."""
    built, x, context = alone(operation, length=50, sentences=40)
    built, x = built.to(device), x.to(device)
    context = Context(*(t.to(device) for t in context))
    results = []
    for _ in range(5):
        torch.manual_seed(1)
        results.append(built(x, context))
    assert all(torch.equal(results[0], result) for result in results)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_every_precision(operation, dtype):
    """It computes in that of its weights, near to float64's result."""
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


def test_memory_is_planned(operation):
    """Upon tensors without contents, of which nothing can depend."""
    options = {"hidden_dim": 120, **candidates(operation)}
    sizes = {name: SIZES[name] for name in ("ffn_dim", "attention_heads", "encoder_layers")}
    words = [(f"--{k.replace('_', '-')}", str(v)) for k, v in {**sizes, **options}.items()]
    cfg = training_config("dartsformer_search_tiny", [word for pair in words for word in pair])
    assert plan_memory(cfg, vocabulary=50, sentences=3, length=7).activations > 0
