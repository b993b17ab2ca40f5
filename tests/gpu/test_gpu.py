"""Properties that need a GPU: its random state, kernels, half precision and memory."""

import pytest
import torch
import torch.nn.functional as F
from fairseq.criterions.label_smoothed_cross_entropy import label_smoothed_nll_loss
from helpers.gpu_gradients import gradients_on_gpu, relative_difference
from helpers.models import RATES, build_search

from fairseq_dartsformer.criterions.linear_cross_entropy import smoothed_cross_entropy
from fairseq_dartsformer.memory.planner import Training, plan_memory, training_config
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


def test_gradients_equal_ordinary_autograd_with_dropout():
    model = build_search(hidden_dim=120).cuda()
    stored, found = (gradients_on_gpu(model, backprop) for backprop in ("store", "reconstruct"))
    assert relative_difference(found, stored) < 1e-4


@pytest.mark.parametrize("mode", ["half", "bfloat16", "autocast"])
def test_half_precision_is_as_near_as_store(mode):
    """At 24 layers, to the gradient of the same network in float32, without dropout."""
    rates = dict.fromkeys(RATES, 0.0)
    torch.manual_seed(1)
    model = build_search(hidden_dim=120, encoder_layers=24, decoder_layers=24, **rates).cuda()
    exact = gradients_on_gpu(model, "store")
    autocast = torch.float16 if mode == "autocast" else None
    if autocast is None:
        model = model.to(getattr(torch, mode))
    stored, found = (gradients_on_gpu(model, b, autocast) for b in ("store", "reconstruct"))
    assert relative_difference(found, exact) < 1.1 * relative_difference(stored, exact) + 1e-3


@pytest.mark.parametrize("mode", ["float32", "float16", "bfloat16", "autocast"])
def test_output_layer(mode):
    """Loss and gradients are as near to float64's as those of complete logits are."""
    torch.manual_seed(0)
    features = torch.randn(700, 64, device="cuda")
    weight = torch.randn(5000, 64, device="cuda") / 8
    target = torch.randint(2, 5000, (700,), device="cuda")
    target[::7] = 1  # padding

    def reference(x, w):
        log_p = F.linear(x, w).log_softmax(-1, dtype=torch.promote_types(x.dtype, torch.float32))
        return label_smoothed_nll_loss(log_p, target.unsqueeze(-1), 0.1, ignore_index=1)[0]

    def chunked(x, w):
        return smoothed_cross_entropy(x, w, None, target, 0.1, padding=1)[0]

    def results(loss, dtype):
        inputs = [t.to(dtype).requires_grad_() for t in (features, weight)]
        with torch.autocast("cuda", dtype=torch.float16, enabled=mode == "autocast"):
            value = loss(*inputs)
        # Scaled as half precision needs it, and back.
        grads = torch.autograd.grad(value / 700, inputs)
        found = {"loss": value.detach(), **dict(zip(("features", "weight"), grads, strict=True))}
        return {name: t.double() for name, t in found.items()}

    dtype = torch.float32 if mode == "autocast" else getattr(torch, mode)
    rounded = (t.to(dtype).double().requires_grad_() for t in (features, weight))
    inputs = list(rounded)
    value = reference(*inputs)
    grads = torch.autograd.grad(value / 700, inputs)
    exact = {"loss": value.detach(), **dict(zip(("features", "weight"), grads, strict=True))}
    plain, found = results(reference, dtype), results(chunked, dtype)
    for name, true in exact.items():
        error, usual = ((r[name] - true).norm() / true.norm() for r in (found, plain))
        assert error < 2 * usual + 1e-6, name


@pytest.mark.parametrize("options", ["", "--fp16", "--backprop store"])
def test_plan_is_the_measured_peak(options):
    options = f"--embed-dim 128 --hidden-dim 480 --share-all-embeddings {options}".split()
    cfg = training_config("dartsformer_search", options)
    planned = plan_memory(cfg, vocabulary=8000, sentences=40, length=25).total
    before = torch.cuda.memory_allocated()
    training = Training(cfg, vocabulary=8000)
    training.model.cuda().train()
    training.build_optimizer()
    torch.cuda.reset_peak_memory_stats()
    for update, level in enumerate(training.levels):
        training.compute_gradients(training.batch(level, 40, 25), update)
        training.step()
    measured = torch.cuda.max_memory_allocated() - before
    assert planned == pytest.approx(measured, rel=0.05)
