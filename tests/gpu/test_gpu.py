"""What only a GPU shows: its random state, its kernels, half precision."""

import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "cpu"))
from models import batch, build_search

from fairseq_dartsformer.operations.convolution import dynamic_convolution

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize(("batch_size", "heads", "width", "size"), [(3, 8, 15, 15), (7, 4, 60, 3)])
def test_dynamic_convolution(dtype, batch_size, heads, width, size):
    """Triton's kernels, where the GPU has them, and torch's operations elsewhere."""
    torch.manual_seed(size)
    windows = torch.randn(40 + size - 1, batch_size, heads * width, dtype=dtype).cuda()
    kernels = torch.rand(40, batch_size, heads, size, dtype=dtype).cuda()
    grad = torch.randn(40, batch_size, heads * width, dtype=dtype).cuda()

    def results(windows, kernels, grad):
        inputs = [windows.requires_grad_(), kernels.requires_grad_()]
        out = dynamic_convolution(*inputs)
        return [out, *torch.autograd.grad(out, inputs, grad)]

    wanted = results(*(t.double().cpu() for t in (windows, kernels, grad)))
    for found, exact in zip(results(windows, kernels, grad), wanted, strict=True):
        error = (found.double().cpu() - exact).abs().max() / exact.abs().max()
        assert error < 8 * torch.finfo(dtype).eps


def gradients(model, backprop: str, autocast: torch.dtype | None = None) -> dict:
    for stack in (model.encoder.stack, model.decoder.stack):
        stack.backprop = backprop
    model.zero_grad()
    torch.manual_seed(3)
    with torch.autocast("cuda", dtype=autocast, enabled=autocast is not None):
        net = {name: t.cuda() for name, t in batch([3, 9, 6]).items()}
        loss = model(**net)[0].float().pow(2).mean()
    state = torch.cuda.get_rng_state()
    loss.backward()
    assert torch.equal(state, torch.cuda.get_rng_state())
    return {name: p.grad.float() for name, p in model.named_parameters()}


def relative_difference(found: dict, expected: dict) -> float:
    difference = sum((found[k] - expected[k]).pow(2).sum() for k in expected)
    return (difference / sum(g.pow(2).sum() for g in expected.values())).sqrt().item()


def test_gradients_equal_ordinary_autograd_with_dropout():
    model = build_search(hidden_dim=120).cuda()
    stored, found = (gradients(model, backprop) for backprop in ("store", "reconstruct"))
    assert relative_difference(found, stored) < 1e-4


@pytest.mark.parametrize("mode", ["half", "bfloat16", "autocast"])
def test_half_precision_is_as_near_as_store(mode):
    """At 24 layers, to the gradient of the same network in float32, without dropout."""
    rates = dict.fromkeys(
        ("dropout", "attention_dropout", "activation_dropout", "weight_dropout"), 0.0
    )
    torch.manual_seed(1)
    model = build_search(hidden_dim=120, encoder_layers=24, decoder_layers=24, **rates).cuda()
    exact = gradients(model, "store")
    autocast = torch.float16 if mode == "autocast" else None
    if autocast is None:
        model = model.to(getattr(torch, mode))
    stored, found = (gradients(model, b, autocast) for b in ("store", "reconstruct"))
    assert relative_difference(found, exact) < 1.1 * relative_difference(stored, exact) + 1e-3
