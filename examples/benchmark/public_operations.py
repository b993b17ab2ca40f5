"""The candidate operations built from fairseq's modules, as in public code for DARTS.

They compute the same functions with the same number of parameters as
`fairseq_dartsformer.operations`, without its optimisations. Training only.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from fairseq.modules import ConvTBC, FairseqDropout, LayerNorm, MultiheadAttention
from fairseq.modules.dynamic_convolution import DynamicConv1dTBC
from torch import nn

from fairseq_dartsformer.operations import OPERATIONS, OperationConfig
from fairseq_dartsformer.operations.base import masked


class Conv(nn.Module):
    """`Standard Conv w×1`."""

    def __init__(self, cfg: OperationConfig, kernel_size: int):
        super().__init__()
        self.pad = (kernel_size - 1, 0) if cfg.causal else (kernel_size // 2, kernel_size // 2)
        self.conv = ConvTBC(cfg.channels, cfg.channels, kernel_size)

    def forward(self, x, context):
        x = masked(x, context.padding_mask)
        return self.conv(F.pad(x, (0, 0, 0, 0, *self.pad)))


class DynamicConv(nn.Module):
    """As in fairseq's lightconv layer."""

    def __init__(self, cfg: OperationConfig, kernel_size: int):
        super().__init__()
        self.linear1 = nn.Linear(cfg.channels, 2 * cfg.channels)
        self.conv = DynamicConv1dTBC(
            cfg.channels,
            kernel_size,
            padding_l=kernel_size - 1 if cfg.causal else kernel_size // 2,
            num_heads=cfg.attention_heads,
            weight_softmax=True,
        )
        self.linear2 = nn.Linear(cfg.channels, cfg.channels)

    def forward(self, x, context):
        x = F.glu(self.linear1(x))
        return self.linear2(self.conv(masked(x, context.padding_mask)))


class SelfAttention(nn.Module):
    """fairseq's attention, causal in the decoder."""

    def __init__(self, cfg: OperationConfig):
        super().__init__()
        self.attention = MultiheadAttention(cfg.channels, cfg.attention_heads, self_attention=True)
        self.causal = cfg.causal

    def forward(self, x, context):
        mask = None
        if self.causal:
            mask = torch.full((len(x), len(x)), -torch.inf, device=x.device, dtype=x.dtype).triu(1)
        return self.attention(x, x, x, context.padding_mask, need_weights=False, attn_mask=mask)[0]


class CrossAttention(nn.Module):
    """fairseq's attention to the encoder output."""

    def __init__(self, cfg: OperationConfig):
        super().__init__()
        self.attention = MultiheadAttention(
            cfg.channels,
            cfg.attention_heads,
            kdim=cfg.encoder_dim,
            vdim=cfg.encoder_dim,
            encoder_decoder_attention=True,
        )

    def forward(self, x, context):
        source = context.encoder_out
        return self.attention(
            x, source, source, context.encoder_padding_mask, need_weights=False, static_kv=True
        )[0]


class FeedForward(nn.Module):
    def __init__(self, cfg: OperationConfig):
        super().__init__()
        self.fc1 = nn.Linear(cfg.channels, cfg.ffn_dim)
        self.fc2 = nn.Linear(cfg.ffn_dim, cfg.channels)

    def forward(self, x, context):
        return self.fc2(F.relu(self.fc1(x)))


class GLU(nn.Module):
    def __init__(self, cfg: OperationConfig):
        super().__init__()
        self.linear = nn.Linear(cfg.channels, 2 * cfg.channels)

    def forward(self, x, context):
        return F.glu(self.linear(x))


class Normed(nn.Module):
    """`LayerNorm(x + dropout(o(x)))`."""

    def __init__(self, operation: nn.Module, cfg: OperationConfig):
        super().__init__()
        self.operation = operation
        self.dropout = FairseqDropout(cfg.dropout)
        self.norm = LayerNorm(cfg.channels)

    def forward(self, x, context):
        x = x.to(next(self.operation.parameters()).dtype)
        return self.norm(x + self.dropout(self.operation(x, context)))


MODULES = {
    "self_attention": SelfAttention,
    "cross_attention": CrossAttention,
    "glu": GLU,
    "ffn": FeedForward,
}


def build_operation(name: str, cfg: OperationConfig) -> nn.Module:
    """As :func:`fairseq_dartsformer.operations.build_operation`."""
    if name in ("zero", "identity"):
        return OPERATIONS[name](cfg)
    if name in MODULES:
        return Normed(MODULES[name](cfg), cfg)
    kind, size = name.rsplit("_", 1)
    module = Conv if kind == "conv" else DynamicConv
    return Normed(module(cfg, int(size)), cfg)
