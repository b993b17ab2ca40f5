"""Convolutions over time: standard, dynamic (Wu et al. 2019) and separable (not a candidate)."""

import logging
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from .base import Context, Dropout, Incremental, OperationConfig, linear, masked

try:
    from . import dynamic_convolution_triton as fused
except ImportError:  # torch builds for CPUs have no Triton
    fused = None

logger = logging.getLogger(__name__)


class _Windowed(Incremental):
    """Base of convolutions: padding, and the earlier steps in incremental decoding."""

    def __init__(self, cfg: OperationConfig, kernel_size: int):
        super().__init__()
        self.kernel_size = kernel_size
        self.left = kernel_size - 1 if cfg.causal else kernel_size // 2

    def windows(self, x: Tensor, context: Context, incremental_state) -> Tensor:
        """Return all positions that the kernel sees from `T × B × C`.

        Returns:
            Tensor `(T + kernel_size - 1) × B × C`: earlier steps and ``x``, zero at padding, with
            zeros on both ends for positions that do not exist.
        """
        x = masked(x, context.padding_mask)
        left, right = self.left, self.kernel_size - 1 - self.left
        windows = F.pad(x, (0, 0, 0, 0, left, right))
        if incremental_state is not None:
            # The step's own windows, with earlier steps in the place of zeros.
            earlier = self.recall(incremental_state).get("x", windows[:left])
            windows = torch.cat([earlier, windows[left:]])
            self.keep(incremental_state, x=windows[len(x) : len(x) + left])
        return windows


class StandardConv(_Windowed):
    """`Standard Conv w×1` to ``out_channels`` (default: C), with a bias and no activation."""

    def __init__(self, cfg: OperationConfig, kernel_size: int, out_channels: int | None = None):
        super().__init__(cfg, kernel_size)
        width = cfg.channels if out_channels is None else out_channels
        self.weight = nn.Parameter(torch.empty(kernel_size, cfg.channels, width))
        self.bias = nn.Parameter(torch.zeros(width))
        bound = (6 / (kernel_size * (cfg.channels + width))) ** 0.5
        nn.init.uniform_(self.weight, -bound, bound)

    def forward(self, x: Tensor, context: Context, incremental_state=None) -> Tensor:
        """`T × B × C` to `T × B × out_channels`; reads ``context.padding_mask``."""
        windows = self.windows(x, context, incremental_state)
        # `T × B × C` is an image of height T and width B in channels-last layout, which is two to
        # three times as fast on a CPU as `torch.conv_tbc` and spares unwanted gradients.
        last = torch.channels_last
        image = windows.permute(2, 0, 1).unsqueeze(0).contiguous(memory_format=last)
        kernel = self.weight.permute(2, 1, 0).unsqueeze(-1).contiguous(memory_format=last)
        return F.conv2d(image, kernel, self.bias).squeeze(0).permute(1, 2, 0)


class SeparableConv(_Windowed):
    """`Separable Conv w×1`: one kernel for each of C channels, then a linear map to D channels."""

    def __init__(self, cfg: OperationConfig, kernel_size: int, in_channels: int, out_channels: int):
        super().__init__(cfg, kernel_size)
        self.weight = nn.Parameter(torch.empty(in_channels, 1, kernel_size))
        nn.init.xavier_uniform_(self.weight)
        self.pointwise = linear(in_channels, out_channels)

    def forward(self, x: Tensor, context: Context, incremental_state=None) -> Tensor:
        """`T × B × C` to `T × B × D`; reads ``context.padding_mask``."""
        windows = self.windows(x, context, incremental_state).permute(1, 2, 0)
        x = F.conv1d(windows, self.weight, groups=len(self.weight))
        return self.pointwise(x.permute(2, 0, 1))


class DynamicConv(_Windowed):
    """GLU input projection, dynamic convolution, output projection (Wu et al. 2019).

    Each position predicts one softmax-normalised kernel for each head; a head's channels share it.
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
        windows = self.windows(x, context, incremental_state)
        return self.out_proj(dynamic_convolution(windows, kernels))


def dynamic_convolution(windows: Tensor, kernels: Tensor) -> Tensor:
    """`out[t, b, c] = sum_j kernels[t, b, h(c), j] · windows[t + j, b, c]`.

    Args:
        windows: `(T + K - 1) × B × C`.
        kernels: `T × B × H × K`; head h has the h-th of H equal groups of channels.

    Returns:
        Tensor `T × B × C`. Only an exported graph, to have few nodes, stores the K windows of each
        position.
    """
    if torch.compiler.is_exporting():
        steps, _, heads, size = kernels.shape
        seen = torch.arange(steps).unsqueeze(1) + torch.arange(size)
        split = windows.unflatten(-1, (heads, -1))[seen]
        return (split * kernels.permute(0, 3, 1, 2).unsqueeze(-1)).sum(1).flatten(-2)
    return _DynamicConvolution.apply(windows.contiguous(), kernels.to(windows.dtype).contiguous())


def _fusible(x: Tensor) -> bool:
    """Whether Triton's kernels run on the device of ``x``: GPUs from Ampere on."""
    return fused is not None and x.is_cuda and _compiles(x.device)


@cache
def _compiles(device: torch.device) -> bool:
    """Whether Triton supports the GPU and can build its kernels, which takes a C compiler."""
    if torch.cuda.get_device_capability(device) < (8, 0):
        return False
    one = torch.ones(1, 1, 1, device=device)
    try:
        fused.backward(fused.forward(one, one.unsqueeze(-1)), one, one.unsqueeze(-1))
    except Exception as error:  # of a compiler, a driver, a linker
        logger.warning(
            "Triton cannot build the kernels of dynamic convolution, PyTorch's operations replace "
            f"them: {type(error).__name__}: {error}"
        )
        return False
    return True


class _DynamicConvolution(torch.autograd.Function):
    """K passes over memory, or one kernel of Triton's."""

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
