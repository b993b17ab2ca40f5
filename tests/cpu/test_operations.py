"""Each candidate against an independent statement of what it computes."""

from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from fairseq_dartsformer.memory.measurement import measured_peak
from fairseq_dartsformer.operations import (
    DECODER_OPERATIONS,
    ENCODER_OPERATIONS,
    OPERATIONS,
    Context,
    OperationConfig,
    attention,
    build_operation,
    convolution,
)
from fairseq_dartsformer.operations.convolution import dynamic_convolution

PAPER = {  # Section 2.5
    *(f"conv_{k}" for k in (3, 5, 7, 11)),
    *(f"dynamic_conv_{k}" for k in (3, 7, 11, 15)),
    *("self_attention", "cross_attention", "glu", "ffn", "zero", "identity"),
}
EXACT = {"rtol": 0, "atol": 1e-12}


def config(causal: bool) -> OperationConfig:
    return OperationConfig(
        channels=12, encoder_dim=20, ffn_dim=18, attention_heads=3, causal=causal
    )


def inner(name: str, causal: bool = False) -> nn.Module:
    """The operation without residual and norm, in float64, no parameter at zero."""
    operation = build_operation(name, config(causal)).double().operation
    for parameter in operation.parameters():
        nn.init.normal_(parameter)
    return operation


def test_the_papers_candidates():
    assert set(DECODER_OPERATIONS) == set(OPERATIONS) == PAPER
    assert set(ENCODER_OPERATIONS) == PAPER - {"cross_attention"}


@pytest.mark.parametrize("name", DECODER_OPERATIONS)
def test_residual_and_norm_within_all_but_zero_and_identity(name):
    operation = build_operation(name, config(causal=True)).double()
    x, encoder_out = torch.randn(5, 2, 12).double(), torch.randn(7, 2, 20).double()
    out = operation(x, Context(encoder_out))
    if name in ("zero", "identity"):
        assert not list(operation.parameters())
        assert torch.equal(out, x if name == "identity" else torch.zeros_like(x))
        return
    expected = F.layer_norm(x + operation.operation(x, Context(encoder_out)), (12,))
    torch.testing.assert_close(out, expected, **EXACT)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("size", [3, 5, 7, 11])
def test_standard_convolution(size, causal):
    operation, x = inner(f"conv_{size}", causal), torch.randn(9, 2, 12).double()
    left = size - 1 if causal else size // 2
    padded = F.pad(x.permute(1, 2, 0), (left, size - 1 - left))
    expected = F.conv1d(padded, operation.weight.permute(2, 1, 0), operation.bias)
    torch.testing.assert_close(operation(x, Context()), expected.permute(2, 0, 1), **EXACT)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("size", [3, 7, 11, 15])
def test_dynamic_convolution(size, causal):
    operation, x = inner(f"dynamic_conv_{size}", causal), torch.randn(9, 2, 12).double()
    h = F.glu(operation.in_proj(x), dim=-1)
    kernels = operation.kernel_proj(h).view(9, 2, 3, size).softmax(-1)
    left = size - 1 if causal else size // 2
    expected = torch.zeros_like(h)
    for t in range(9):
        for j in range(size):
            if 0 <= t + j - left < 9:
                weight = kernels[t, :, :, j].repeat_interleave(4, dim=-1)
                expected[t] += weight * h[t + j - left]
    torch.testing.assert_close(operation(x, Context()), operation.out_proj(expected), **EXACT)


def test_dynamic_convolution_is_not_unfolded():
    """Its memory is that of its input, output and kernels, whatever their size K."""
    peaks = {}
    for size in (3, 15):
        windows = torch.randn(40 + size - 1, 20, 64, requires_grad=True)
        kernels = torch.rand(40, 20, 2, size, requires_grad=True)

        def step(windows=windows, kernels=kernels) -> None:
            dynamic_convolution(windows, kernels).square().sum().backward()

        peaks[size] = measured_peak(step) - 2 * kernels.nbytes
    assert peaks[15] < 1.3 * peaks[3]


@pytest.mark.parametrize("capability", [(7, 0), (8, 0)])
def test_triton_gives_way(capability, monkeypatch, caplog):
    """On a Volta, and where it cannot build."""
    launched = []

    def forward(*_) -> None:
        launched.append(True)
        raise RuntimeError("no compiler")

    monkeypatch.setattr(convolution, "fused", SimpleNamespace(forward=forward, backward=None))
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    convolution._compiles.cache_clear()
    assert not any(convolution._compiles(torch.device("cpu")) for _ in range(2))
    convolution._compiles.cache_clear()
    assert len(launched) == len(caplog.records) == (capability >= (8, 0))


@pytest.mark.parametrize("name", ["self_attention", "cross_attention"])
def test_alignment_of_heads_changes_nothing(name, monkeypatch):
    operation, x = inner(name, causal=True), torch.randn(9, 2, 12).double()
    context = Context(torch.randn(5, 2, 20).double())
    wanted = operation(x, context)
    monkeypatch.setattr(attention, "ALIGNED_DEVICES", ("cpu",))
    torch.testing.assert_close(operation(x, context), wanted, **EXACT)


def test_gradient_of_dynamic_convolution():
    windows = torch.randn(8, 2, 6, dtype=torch.float64, requires_grad=True)
    kernels = torch.randn(4, 2, 3, 5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(dynamic_convolution, (windows, kernels))


@pytest.mark.parametrize(("name", "width"), [("self_attention", 12), ("cross_attention", 20)])
def test_attention(name, width):
    operation, x = inner(name), torch.randn(5, 2, 12).double()
    memory = x if name == "self_attention" else torch.randn(7, 2, width).double()
    mask = torch.zeros(2, len(memory), dtype=torch.bool)
    mask[1, -2:] = True
    reference = nn.MultiheadAttention(12, 3, kdim=width, vdim=width).double()
    projections = (operation.q_proj, operation.k_proj, operation.v_proj)
    weights, biases = [p.weight for p in projections], [p.bias for p in projections]
    state = {
        "in_proj_bias": torch.cat(biases),
        "out_proj.weight": operation.out_proj.weight,
        "out_proj.bias": operation.out_proj.bias,
    }
    if width == 12:
        state["in_proj_weight"] = torch.cat(weights)
    else:
        names = [f"{part}_proj_weight" for part in "qkv"]
        state |= dict(zip(names, weights, strict=True))
    reference.load_state_dict(state)
    expected = reference(x, memory, memory, key_padding_mask=mask, need_weights=False)[0]
    context = Context(memory, mask, mask if name == "self_attention" else None)
    torch.testing.assert_close(operation(x, context), expected, **EXACT)


def test_position_wise():
    x = torch.randn(5, 2, 12).double()
    glu, ffn = inner("glu"), inner("ffn")
    first, second = F.linear(x, glu.linear.weight, glu.linear.bias).chunk(2, dim=-1)
    torch.testing.assert_close(glu(x, Context()), first * torch.sigmoid(second), **EXACT)
    hidden = F.linear(x, ffn.fc1.weight, ffn.fc1.bias).clamp(min=0)
    assert hidden.size(-1) == 18
    expected = F.linear(hidden, ffn.fc2.weight, ffn.fc2.bias)
    torch.testing.assert_close(ffn(x, Context()), expected, **EXACT)
