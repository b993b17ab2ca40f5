"""The two candidates without parameters; they have neither residual nor norm."""

import torch
from torch import Tensor, nn

from .base import Context, OperationConfig


class Zero(nn.Module):
    """`o(x) = 0`: no connection."""

    def __init__(self, cfg: OperationConfig):
        super().__init__()

    def forward(self, x: Tensor, context: Context, incremental_state=None) -> Tensor:
        """`T × B × C` to the same shape."""
        return torch.zeros_like(x)


class Identity(nn.Module):
    """`o(x) = x`."""

    def __init__(self, cfg: OperationConfig):
        super().__init__()

    def forward(self, x: Tensor, context: Context, incremental_state=None) -> Tensor:
        """`T × B × C` to the same shape."""
        return x
