"""The position-wise candidates."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .base import Context, Dropout, OperationConfig, linear


class FeedForward(nn.Module):
    """`ReLU(x W_1 + b_1) W_2 + b_2` (Vaswani et al. 2017), inner width ``ffn_dim``."""

    def __init__(self, cfg: OperationConfig):
        super().__init__()
        self.fc1 = linear(cfg.channels, cfg.ffn_dim)
        self.fc2 = linear(cfg.ffn_dim, cfg.channels)
        self.activation_dropout = Dropout(cfg.activation_dropout, module_name=type(self).__name__)

    def forward(self, x: Tensor, context: Context, incremental_state=None) -> Tensor:
        """`T × B × C` to the same shape."""
        return self.fc2(self.activation_dropout(F.relu(self.fc1(x))))


class GatedLinearUnit(nn.Module):
    """`(x W + b) · sigmoid(x V + c)` (Dauphin et al. 2017)."""

    def __init__(self, cfg: OperationConfig):
        super().__init__()
        self.linear = linear(cfg.channels, 2 * cfg.channels)

    def forward(self, x: Tensor, context: Context, incremental_state=None) -> Tensor:
        """`T × B × C` to the same shape."""
        return F.glu(self.linear(x), dim=-1)


class Parameterless(nn.Module):
    """Base of the two candidates without parameters, which have neither residual nor norm."""

    def __init__(self, cfg: OperationConfig):
        super().__init__()


class Zero(Parameterless):
    """`o(x) = 0`: no connection."""

    def forward(self, x: Tensor, context: Context, incremental_state=None) -> Tensor:
        """`T × B × C` to the same shape."""
        return torch.zeros_like(x)


class Identity(Parameterless):
    """`o(x) = x`."""

    def forward(self, x: Tensor, context: Context, incremental_state=None) -> Tensor:
        """`T × B × C` to the same shape."""
        return x
