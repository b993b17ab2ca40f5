"""Triton's kernels, run by its interpreter: they need Triton, but no GPU."""

import importlib.util
import os
import subprocess
import sys

import pytest

# In a process of its own, because Triton decides how to run kernels when they are defined.
COMPARE = """
import itertools
import torch
from fairseq_dartsformer.operations import dynamic_convolution_triton as fused
from fairseq_dartsformer.operations.convolution import dynamic_convolution

SHAPES = [(5, 3, 2, 7, 3), (37, 4, 8, 15, 15), (18, 5, 4, 30, 7)]
DTYPES = (torch.float64, torch.float32, torch.float16)
for dtype, (steps, batch, heads, width, size) in itertools.product(DTYPES, SHAPES):
    torch.manual_seed(steps)
    windows = torch.randn(steps + size - 1, batch, heads * width).to(dtype)
    kernels = torch.rand(steps, batch, heads, size).to(dtype)
    grad = torch.randn(steps, batch, heads * width).to(dtype)
    inputs = [windows.double().requires_grad_(), kernels.double().requires_grad_()]
    out = dynamic_convolution(*inputs)
    wanted = [out, *torch.autograd.grad(out, inputs, grad.double())]
    found = [fused.forward(windows, kernels), *fused.backward(grad, windows, kernels)]
    for name, a, b in zip(("out", "windows", "kernels"), found, wanted, strict=True):
        error = float((a.double() - b).abs().max() / b.abs().max())
        assert a.dtype == dtype and error < 4 * torch.finfo(dtype).eps, (name, dtype, steps, error)
"""


@pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="there is no Triton")
def test_dynamic_convolution():
    run = subprocess.run(
        [sys.executable, "-c", COMPARE],
        env={**os.environ, "TRITON_INTERPRET": "1", "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert run.returncode == 0, run.stderr
