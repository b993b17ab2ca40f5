"""Convolutions over time: standard, dynamic (Wu et al. 2019), and separable (no candidate)."""

from __future__ import annotations

import logging
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from .base import Context, Dropout, Incremental, OperationConfig, append, linear, masked
from .fast_convolution import convolution

try:
    from . import dynamic_convolution_triton as fused
except ImportError:  # torch for CPUs comes without Triton
    fused = None

logger = logging.getLogger(__name__)


class _Windowed(Incremental):
    """Padding of a convolution over time, and its memory while decoding step by step."""

    def __init__(self, cfg: OperationConfig, kernel_size: int):
        super().__init__()
        self.kernel_size = kernel_size
        self.left = kernel_size - 1 if cfg.causal else kernel_size // 2

    def with_history(
        self, x: Tensor, context: Context, incremental_state
    ) -> tuple[Tensor, int, int]:
        """All that the kernel sees from the first position of ``x`` to the last.

        Args:
            x: `T × B × C`.

        Returns:
            ``x`` with zeros at padding, behind earlier steps while decoding, which are kept for the
            next; and how many zeros belong before and after it, to `T + kernel_size - 1` positions
            in all.
        """
        x = masked(x, context.padding_mask)
        left, right = self.left, self.kernel_size - 1 - self.left
        if incremental_state is not None:
            steps = len(x)
            x = append(self.recall(incremental_state).get("x"), x, steps + left)
            self.keep(incremental_state, x=x)
            left -= len(x) - steps
        return x, left, right


class StandardConv(_Windowed):
    """`Standard Conv w×1`: C to D channels over time, with a bias and no activation; D is C where
    it is not given."""

    def __init__(self, cfg: OperationConfig, kernel_size: int, out_channels: int | None = None):
        super().__init__(cfg, kernel_size)
        width = cfg.channels if out_channels is None else out_channels
        self.weight = nn.Parameter(torch.empty(kernel_size, cfg.channels, width))
        self.bias = nn.Parameter(torch.zeros(width))
        bound = (6 / (kernel_size * (cfg.channels + width))) ** 0.5
        nn.init.uniform_(self.weight, -bound, bound)

    def forward(self, x: Tensor, context: Context, incremental_state=None) -> Tensor:
        """`T × B × C` to `T × B × D`; reads ``context.padding_mask``."""
        x, left, right = self.with_history(x, context, incremental_state)
        return convolution(x, self.weight, self.bias, left, right)


class SeparableConv(_Windowed):
    """`Separable Conv w×1`: a kernel for each of C channels, then a map to D with a bias."""

    def __init__(self, cfg: OperationConfig, kernel_size: int, in_channels: int, out_channels: int):
        super().__init__(cfg, kernel_size)
        self.weight = nn.Parameter(torch.empty(in_channels, 1, kernel_size))
        nn.init.xavier_uniform_(self.weight)
        self.pointwise = linear(in_channels, out_channels)

    def forward(self, x: Tensor, context: Context, incremental_state=None) -> Tensor:
        """`T × B × C` to `T × B × D`; reads ``context.padding_mask``."""
        x, left, right = self.with_history(x, context, incremental_state)
        x = F.pad(x.permute(1, 2, 0), (left, right))
        x = F.conv1d(x, self.weight, groups=len(self.weight))
        return self.pointwise(x.permute(2, 0, 1))


class DynamicConv(_Windowed):
    """GLU input projection, dynamic convolution, output projection (Wu et al. 2019).

    Each position predicts, for each head, a softmax-normalised kernel that the head's channels
    share.
    """

    def __init__(self, cfg: OperationConfig, kernel_size: int):
        super().__init__(cfg, kernel_size)
        self.heads = cfg.attention_heads
        self.in_proj = linear(cfg.channels, 2 * cfg.channels)
        self.kernel_proj = linear(cfg.channels, self.heads * kernel_size, bias=False)
        self.out_proj = linear(cfg.channels, cfg.channels)
        self.weight_dropout = Dropout(cfg.weight_dropout, module_name=type(self).__name__)

    def forward(self, x: Tensor, context: Context, incremental_state=None) -> Tensor:
        """`T × B × C` to the same shape; reads ``context.padding_mask``."""
        x = F.glu(self.in_proj(x), dim=-1)
        kernels = self.kernel_proj(x).unflatten(-1, (self.heads, self.kernel_size))
        kernels = self.weight_dropout(kernels.softmax(dim=-1))
        x, left, right = self.with_history(x, context, incremental_state)
        windows = F.pad(x, (0, 0, 0, 0, left, right))
        return self.out_proj(dynamic_convolution(windows, kernels))


def dynamic_convolution(windows: Tensor, kernels: Tensor) -> Tensor:
    """`out[t, b, c] = sum_j kernels[t, b, h(c), j] · windows[t + j, b, c]`.

    Args:
        windows: `(T + K - 1) × B × C`.
        kernels: `T × B × H × K`; the H heads share the channels evenly, in order.

    Returns:
        Tensor `T × B × C`. Neither it nor its gradient unfolds the K windows in memory.
    """
    return _DynamicConvolution.apply(windows.contiguous(), kernels.to(windows.dtype).contiguous())


def _fusible(x: Tensor) -> bool:
    """Whether Triton has kernels for where ``x`` is: GPUs from Ampere on."""
    return fused is not None and x.is_cuda and _compiles(x.device)


@cache
def _compiles(device: torch.device) -> bool:
    """Whether Triton knows the GPU, and can build there: it takes a C compiler."""
    if torch.cuda.get_device_capability(device) < (8, 0):
        return False
    one = torch.ones(1, 1, 1, device=device)
    try:
        fused.backward(fused.forward(one, one.unsqueeze(-1)), one, one.unsqueeze(-1))
    except Exception as error:  # of a compiler, a driver, a linker
        logger.warning(
            "Triton cannot build its kernels of dynamic convolution; PyTorch's operations serve: "
            f"{type(error).__name__}: {error}"
        )
        return False
    return True


class _DynamicConvolution(torch.autograd.Function):
    """K passes over memory, or one kernel."""

    @staticmethod
    def forward(ctx: Any, windows: Tensor, kernels: Tensor) -> Tensor:
        ctx.save_for_backward(windows, kernels)
        if _fusible(windows):
            return fused.forward(windows, kernels)
        steps, _, heads, size = kernels.shape
        windows = windows.unflatten(-1, (heads, -1))
        out = windows[:steps] * kernels[..., :1]
        for j in range(1, size):
            out.addcmul_(windows[j : j + steps], kernels[..., j : j + 1])
        return out.flatten(-2)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        windows, kernels = ctx.saved_tensors
        if _fusible(grad):
            return fused.backward(grad.contiguous(), windows, kernels)
        steps, _, heads, size = kernels.shape
        grad = grad.unflatten(-1, (heads, -1))
        windows = windows.unflatten(-1, (heads, -1))
        grad_windows, grad_kernels = torch.zeros_like(windows), torch.empty_like(kernels)
        for j in range(size):
            grad_windows[j : j + steps].addcmul_(grad, kernels[..., j : j + 1])
            grad_kernels[..., j] = (grad * windows[j : j + steps]).sum(-1)
        return grad_windows.flatten(-2), grad_kernels
