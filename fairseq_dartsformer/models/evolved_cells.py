"""The two cells of the Evolved Transformer (So et al. 2019), as tensor2tensor computes them.

What its `evolved_transformer.py` settles:

- Every sub-layer is `x + dropout(o(LayerNorm(x)))`. There are norms within three of them, too:
  between the two stages of either cell's convolutions, and before the second map of the decoder's
  feed-forward network.
- The narrower of two branches has zeros for the channels that it lacks.
- Padding is zero in what a convolution sees.
- Attention has no biases; the maps and convolutions have. All are drawn by Glorot's uniform rule.
  A norm's epsilon is 1e-6.
- Twice the heads are 16 at most, or as many as there are anyway. (So its later versions; the first
  had 16 or more in any case, which differs only with fewer than 8 heads.)

What is ours: the source has one rate for all dropout but that of attention weights; here
``dropout`` is the rate of what is added to the stream, ``activation_dropout`` of what stays within
a sub-layer. The source has feed-forward networks 4 times as wide as the stream, whatever else is
said; here they are ``ffn_dim`` wide. It draws the two maps of the GLU apart; here they are drawn as
one of twice the width.
"""

from __future__ import annotations

from dataclasses import replace

import torch.nn.functional as F
from torch import Tensor, nn

from ..operations import Context, OperationConfig
from ..operations.attention import CrossAttention, SelfAttention
from ..operations.base import Dropout, linear
from ..operations.convolution import SeparableConv, StandardConv
from ..operations.feed_forward import FeedForward, GatedLinearUnit

MOST_HEADS = 16


def doubled_heads(heads: int) -> int:
    """Heads of the decoder's first attention."""
    return max(min(2 * heads, MOST_HEADS), heads)


def layer_norm(width: int) -> nn.LayerNorm:
    """A norm with tensor2tensor's epsilon."""
    return nn.LayerNorm(width, eps=1e-6)


class EncoderCell(nn.Module):
    """GLU; branches of convolutions; self attention; feed-forward network. Two layers deep."""

    def __init__(self, cfg: OperationConfig):
        super().__init__()
        self.sublayers = nn.ModuleList(
            Residual(operation, cfg)
            for operation in (
                GatedLinearUnit(cfg),
                EncoderConvolutions(cfg),
                SelfAttention(cfg),
                FeedForward(cfg),
            )
        )

    def forward(self, x: Tensor, encoder_padding_mask: Tensor | None = None) -> Tensor:
        """`S × B × d` to the same shape; the mask is bool `B × S`, true at padding."""
        for sublayer in self.sublayers:
            x = sublayer(x, Context(padding_mask=encoder_padding_mask))
        return x

    def upgrade_state_dict_named(self, state_dict: dict[str, Tensor], name: str) -> None:
        """Nothing: fairseq's encoder asks its layers, and there are no older checkpoints."""


class DecoderCell(nn.Module):
    """Branches of attention; branches of convolutions; self attention; attention to the encoder;
    feed-forward network. Two layers deep; causal."""

    def __init__(self, cfg: OperationConfig):
        super().__init__()
        self.sublayers = nn.ModuleList(
            [
                # Each branch has a dropout of its own.
                Residual(AttentionBranches(cfg), replace(cfg, dropout=0.0)),
                Residual(DecoderConvolutions(cfg), cfg),
                Residual(SelfAttention(cfg), cfg),
                Residual(CrossAttention(cfg), cfg),
                Residual(SwishFeedForward(cfg), cfg),
            ]
        )

    def forward(
        self,
        x: Tensor,
        encoder_out: Tensor,
        encoder_padding_mask: Tensor | None = None,
        incremental_state=None,
        self_attn_padding_mask: Tensor | None = None,
        **unused,
    ) -> tuple[Tensor, None, None]:
        """One call of fairseq's decoder.

        Args:
            x: `T × B × d`; while decoding step by step, the last step.
            encoder_out: `S × B × d`.
            encoder_padding_mask: bool `B × S`.
            incremental_state: keeps the earlier steps.
            self_attn_padding_mask: bool `B × T`.

        Returns:
            `T × B × d`, and in place of attention weights and state ``None``.
        """
        context = Context(encoder_out, encoder_padding_mask, self_attn_padding_mask)
        for sublayer in self.sublayers:
            x = sublayer(x, context, incremental_state)
        return x, None, None


class Residual(nn.Module):
    """`x + dropout(o(LayerNorm(x)))`."""

    def __init__(self, operation: nn.Module, cfg: OperationConfig):
        super().__init__()
        self.layer_norm = layer_norm(cfg.channels)
        self.operation = operation
        self.dropout = Dropout(cfg.dropout, module_name=type(self).__name__)

    def forward(self, x: Tensor, context: Context, incremental_state=None) -> Tensor:
        """`T × B × d` to the same shape."""
        return x + self.dropout(self.operation(self.layer_norm(x), context, incremental_state))


class _Branches(nn.Module):
    """What the cells' convolutions share: two branches, a norm of their sum, a third convolution.

    Args:
        cfg: sizes and rates.
        width: of the sum.
    """

    def __init__(self, cfg: OperationConfig, width: int):
        super().__init__()
        self.layer_norm = layer_norm(width)
        self.dropout = Dropout(cfg.activation_dropout, module_name=type(self).__name__)

    def add(self, wide: Tensor, narrow: Tensor) -> Tensor:
        """The norm of both branches' sum, after dropout, zeros added to the narrower."""
        return self.layer_norm(self.dropout(wide) + widened(self.dropout(narrow), wide.size(-1)))


class EncoderConvolutions(_Branches):
    """`ReLU(dense to 4d)` beside `ReLU(conv 3×1 to d/2)`; then separable conv 9×1 to d/2.

    The last d/2 channels of the output are zero.
    """

    def __init__(self, cfg: OperationConfig):
        wide, narrow = 4 * cfg.channels, cfg.channels // 2
        super().__init__(cfg, wide)
        self.dense = linear(cfg.channels, wide)
        self.conv = StandardConv(cfg, 3, narrow)
        self.separable_conv = SeparableConv(cfg, 9, wide, narrow)

    def forward(self, x: Tensor, context: Context, incremental_state=None) -> Tensor:
        """`S × B × d` to the same shape; reads ``context.padding_mask``."""
        hidden = self.add(F.relu(self.dense(x)), F.relu(self.conv(x, context)))
        return widened(self.separable_conv(hidden, context), x.size(-1))


class DecoderConvolutions(_Branches):
    """`ReLU(separable conv 11×1 to 2d)` beside separable conv 7×1 to d/2; then separable conv 7×1
    to d. All of them causal."""

    def __init__(self, cfg: OperationConfig):
        channels, wide, narrow = cfg.channels, 2 * cfg.channels, cfg.channels // 2
        super().__init__(cfg, wide)
        self.wide_conv = SeparableConv(cfg, 11, channels, wide)
        self.narrow_conv = SeparableConv(cfg, 7, channels, narrow)
        self.last_conv = SeparableConv(cfg, 7, wide, channels)

    def forward(self, x: Tensor, context: Context, incremental_state=None) -> Tensor:
        """`T × B × d` to the same shape; reads ``context.padding_mask``."""
        wide = F.relu(self.wide_conv(x, context, incremental_state))
        hidden = self.add(wide, self.narrow_conv(x, context, incremental_state))
        return self.last_conv(hidden, context, incremental_state)


class AttentionBranches(nn.Module):
    """Self attention with twice the heads beside attention to the encoder."""

    def __init__(self, cfg: OperationConfig):
        super().__init__()
        heads = doubled_heads(cfg.attention_heads)
        self.self_attention = SelfAttention(replace(cfg, attention_heads=heads))
        self.cross_attention = CrossAttention(cfg)
        self.dropout = Dropout(cfg.dropout, module_name=type(self).__name__)

    def forward(self, x: Tensor, context: Context, incremental_state=None) -> Tensor:
        """`T × B × d` to the same shape; reads all of ``context``."""
        branches = self.self_attention, self.cross_attention
        left, right = (self.dropout(b(x, context, incremental_state)) for b in branches)
        return left + right


class SwishFeedForward(nn.Module):
    """`LayerNorm(swish(x W_1 + b_1)) W_2 + b_2`, inner width ``ffn_dim``."""

    def __init__(self, cfg: OperationConfig):
        super().__init__()
        self.fc1 = linear(cfg.channels, cfg.ffn_dim)
        self.fc2 = linear(cfg.ffn_dim, cfg.channels)
        self.layer_norm = layer_norm(cfg.ffn_dim)
        self.dropout = Dropout(cfg.activation_dropout, module_name=type(self).__name__)

    def forward(self, x: Tensor, context: Context, incremental_state=None) -> Tensor:
        """`T × B × d` to the same shape."""
        return self.fc2(self.layer_norm(self.dropout(F.silu(self.fc1(x)))))


def widened(x: Tensor, width: int) -> Tensor:
    """``x`` (`T × B × C`) with zeros for the channels up to ``width``."""
    return F.pad(x, (0, width - x.size(-1)))
