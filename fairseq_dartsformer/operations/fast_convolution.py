"""Convolution over time with fewer multiplications: the fast FIR algorithm.

Mou and Duhamel, Short-length FIR filters and their use in fast nonrecursive filtering, 1991. Two
outputs of a two-tap filter take three products instead of four:

    y_0 = x_0 w_0 + x_1 w_1 = x_1 (w_0 + w_1) + (x_0 - x_1) w_0
    y_1 = x_1 w_0 + x_2 w_1 = x_1 (w_0 + w_1) + (x_2 - x_1) w_1

Read even and odd positions for the numbers, and the same turns a convolution of K taps into three
of K/2 at half the positions, again and again. No output depends on a position outside of its
kernel, not even by a rounding error.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

# Numbers in the output below which the additions cost more than the products that they save.
SMALLEST = 100_000


def convolution(x: Tensor, weight: Tensor, bias: Tensor, left: int, right: int) -> Tensor:
    """`out[t] = bias + sum_j x[t - left + j] · weight[j]`, with zeros beyond ``x``.

    Computes only the gradients that are asked for, which `torch.conv_tbc` does not.

    Args:
        x: `T × B × C`.
        weight: `K × C × D`.
        bias: D.
        left, right: how many positions are added on either side.

    Returns:
        Tensor `(left + T + right - K + 1) × B × D`.
    """
    kind = x.device.type
    if torch.is_autocast_enabled(kind):
        dtype = torch.get_autocast_dtype(kind)
        x, weight, bias = x.to(dtype), weight.to(dtype), bias.to(dtype)
    return _FastConvolution.apply(x, weight, bias, left, right)


class _FastConvolution(torch.autograd.Function):
    """:func:`convolution` upon one dtype."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, left: int, right: int) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.left, ctx.right = left, right
        return correlate(_padded(x, left, right), weight).add_(bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        before = len(weight) - 1
        grad_x = grad_weight = grad_bias = None
        if ctx.needs_input_grad[0]:
            around = _padded(grad, before - ctx.left, before - ctx.right)
            grad_x = correlate(around, weight.flip(0).transpose(1, 2))
        if ctx.needs_input_grad[1]:
            grad_weight = correlate_grad(_padded(x, ctx.left, ctx.right), grad)
        if ctx.needs_input_grad[2]:
            grad_bias = grad.sum((0, 1))
        return grad_x, grad_weight, grad_bias, None, None


def _padded(x: Tensor, left: int, right: int) -> Tensor:
    return F.pad(x, (0, 0, 0, 0, left, right))


def correlate(windows: Tensor, weight: Tensor) -> Tensor:
    """`out[t] = sum_j windows[t + j] · weight[j]`.

    Args:
        windows: `(T + K - 1) × B × C`.
        weight: `K × C × D`.

    Returns:
        Tensor `T × B × D`.
    """
    taps, _, width = weight.shape
    steps, batch = len(windows) - taps + 1, windows.size(1)
    if not _worthwhile(windows, taps, steps * batch * width):
        out = windows.new_zeros(steps * batch, width)
        for j in range(taps):
            out.addmm_(_rows(windows[j : j + steps]), weight[j])
        return out.view(steps, batch, width)
    if taps % 2:
        out = correlate(windows[:-1], weight[:-1])
        _rows(out).addmm_(_rows(windows[taps - 1 :]), weight[-1])
        return out
    odd, before, after = _differences(windows)
    first, second = weight[0::2], weight[1::2]
    both = correlate(odd, first + second)
    out = windows.new_empty(steps, batch, width)
    torch.add(both, correlate(before, first), out=out[0::2])
    torch.add(both[: steps // 2], correlate(after, second), out=out[1::2])
    return out


def correlate_grad(windows: Tensor, grad: Tensor) -> Tensor:
    """The gradient of :func:`correlate`'s weight, `K × C × D`, from that of its output."""
    taps = len(windows) - len(grad) + 1
    if not _worthwhile(windows, taps, grad.numel()):
        rows = _rows(grad)
        return torch.stack([_rows(windows[j : j + len(grad)]).t() @ rows for j in range(taps)])
    if taps % 2:
        last = _rows(windows[taps - 1 :]).t() @ _rows(grad)
        return torch.cat([correlate_grad(windows[:-1], grad), last.unsqueeze(0)])
    odd, before, after = _differences(windows)
    first, second = grad[0::2], grad[1::2]
    total = first.clone()
    total[: len(second)] += second
    both = correlate_grad(odd, total)
    out = windows.new_empty(taps, windows.size(2), grad.size(2))
    torch.add(both, correlate_grad(before, first), out=out[0::2])
    torch.add(both, correlate_grad(after, second), out=out[1::2])
    return out


def _worthwhile(windows: Tensor, taps: int, size: int) -> bool:
    """Whether to split: half precision would suffer, and GPUs have multiplications to spare."""
    exact = windows.dtype in (torch.float32, torch.float64)
    return taps > 1 and size >= SMALLEST and exact and windows.device.type == "cpu"


def _rows(x: Tensor) -> Tensor:
    """`T × B × C` as a matrix of `T B` rows."""
    return x.reshape(-1, x.size(-1))


def _differences(windows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The odd positions; those before them less them; those after them less them."""
    even, odd = windows[0::2], windows[1::2].contiguous()
    return odd, even[: len(odd)] - odd, even[1:] - odd[: len(even) - 1]
