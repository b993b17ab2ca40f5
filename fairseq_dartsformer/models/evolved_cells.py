"""The two cells of the Evolved Transformer (So et al. 2019), as tensor2tensor computes them.

Details that tensor2tensor's `evolved_transformer.py` settles:

- Every sub-layer is `x + dropout(o(LayerNorm(x)))`. Three of them contain a further norm: between
  the two stages of either cell's convolutions, and before the second map of the decoder's
  feed-forward network.
- The narrower of two branches is padded with zero channels.
- Convolutions see zeros at padding.
- Attention has no biases; maps and convolutions have. Glorot's uniform rule initialises all of
  them. A norm's epsilon is 1e-6.
- The decoder's first attention has twice the heads, at most 16 or as many as the others. (Later
  versions; the first differs with fewer than 8 heads.)

Differences of ours: tensor2tensor has one rate for all dropout but that of attention weights; here
``dropout`` applies to what is added to the stream, and ``activation_dropout`` within a sub-layer.
Its feed-forward networks are always 4 times as wide as the stream; here they are ``ffn_dim`` wide.
It initialises the two maps of the GLU separately; here they are one map of twice the width.
"""

from dataclasses import replace

import torch.nn.functional as F
from torch import Tensor, nn

from ..operations import Context, OperationConfig
from ..operations.attention import CrossAttention, SelfAttention
from ..operations.base import Dropout, linear
from ..operations.convolution import SeparableConv, StandardConv
from ..operations.position_wise import FeedForward, GatedLinearUnit

MOST_HEADS = 16
NORM_EPSILON = 1e-6


def doubled_heads(heads: int) -> int:
    """Return the heads of the decoder's first attention."""
    return max(min(2 * heads, MOST_HEADS), heads)


def layer_norm(width: int) -> nn.LayerNorm:
    """Make a norm with tensor2tensor's epsilon."""
    return nn.LayerNorm(width, eps=NORM_EPSILON)


class EncoderCell(nn.Module):
    """GLU; branches of convolutions; self attention; feed-forward network. Two layers deep."""

    def __init__(self, cfg: OperationConfig):
        super().__init__()
        kinds = (GatedLinearUnit, EncoderConvolutions, SelfAttention, FeedForward)
        self.sublayers = nn.ModuleList(Residual(kind(cfg), cfg) for kind in kinds)

    def forward(self, x: Tensor, encoder_padding_mask: Tensor | None = None) -> Tensor:
        """`S × B × d` to the same shape; the mask is bool `B × S`, true at padding."""
        for sublayer in self.sublayers:
            x = sublayer(x, Context(padding_mask=encoder_padding_mask))
        return x

    def upgrade_state_dict_named(self, state_dict: dict[str, Tensor], name: str) -> None:
        """Do nothing; fairseq's encoder calls it on every layer."""


class DecoderCell(nn.Module):
    """Branches of attention; branches of convolutions; self attention; attention to the encoder;
    feed-forward network. Two layers deep; causal."""

    def __init__(self, cfg: OperationConfig):
        super().__init__()
        kinds = (DecoderConvolutions, SelfAttention, CrossAttention, SwishFeedForward)
        # Each of the first sub-layer's branches has its own dropout.
        first = Residual(AttentionBranches(cfg), replace(cfg, dropout=0.0))
        self.sublayers = nn.ModuleList([first, *(Residual(kind(cfg), cfg) for kind in kinds)])

    def forward(
        self,
        x: Tensor,
        encoder_out: Tensor,
        encoder_padding_mask: Tensor | None = None,
        incremental_state=None,
        self_attn_padding_mask: Tensor | None = None,
        **unused,
    ) -> tuple[Tensor, None, None]:
        """Compute a cell, called as fairseq's decoder layer, from ``x``, `T × B × d`.

        The shapes of the rest are those in :class:`Context`. Returns `T × B × d`, and ``None`` for
        attention weights and state.
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
    """Base of the cells' convolutions: the sum of two branches, of ``width`` channels."""

    def __init__(self, cfg: OperationConfig, width: int):
        super().__init__()
        self.layer_norm = layer_norm(width)
        self.dropout = Dropout(cfg.activation_dropout, module_name=type(self).__name__)

    def add(self, wide: Tensor, narrow: Tensor) -> Tensor:
        """Return the norm of the branches' sum, after dropout; the narrower is padded."""
        return self.layer_norm(self.dropout(wide) + widened(self.dropout(narrow), wide.size(-1)))


class EncoderConvolutions(_Branches):
    """`ReLU(dense to 4d)` plus `ReLU(conv 3×1 to d/2)`; then separable conv 9×1 to d/2.

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
    """`ReLU(separable conv 11×1 to 2d)` plus separable conv 7×1 to d/2; then separable conv 7×1 to
    d; all causal."""

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
    """The sum of self attention with twice the heads and attention to the encoder."""

    def __init__(self, cfg: OperationConfig):
        super().__init__()
        heads = doubled_heads(cfg.attention_heads)
        self.self_attention = SelfAttention(replace(cfg, attention_heads=heads))
        self.cross_attention = CrossAttention(cfg)
        self.dropout = Dropout(cfg.dropout, module_name=type(self).__name__)

    def forward(self, x: Tensor, context: Context, incremental_state=None) -> Tensor:
        """`T × B × d` to the same shape; reads the complete ``context``."""
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
    """Pad ``x``, `T × B × C`, with zero channels to ``width``."""
    return F.pad(x, (0, width - x.size(-1)))
