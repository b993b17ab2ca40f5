"""Multi-head attention (Vaswani et al. 2017), of the sequence itself and of the encoder output."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .base import Context, Dropout, Incremental, OperationConfig, append, linear

# CUDA's memory-efficient kernel, the one that takes masks, wants heads of such widths in half
# precision; for others (60 at d 960 with two splits) torch falls back to T × S scores in memory.
ALIGNMENT = 8
ALIGNED_DEVICES = ("cuda",)


class _Attention(Incremental):
    """Queries from `T × B × C`; heads, scaled dot products and the output projection.

    ``scaled_dot_product_attention`` computes in the dtype of its input; fairseq's own attention
    takes the softmax in float32 whatever the model's dtype.
    """

    def __init__(self, cfg: OperationConfig, kv_dim: int):
        super().__init__()
        self.heads = cfg.attention_heads
        self.q_proj = linear(cfg.channels, cfg.channels, cfg.attention_bias)
        self.k_proj = linear(kv_dim, cfg.channels, cfg.attention_bias)
        self.v_proj = linear(kv_dim, cfg.channels, cfg.attention_bias)
        self.out_proj = linear(cfg.channels, cfg.channels, cfg.attention_bias)
        self.attention_dropout = Dropout(cfg.attention_dropout, module_name=type(self).__name__)

    def attend(
        self, x: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None, causal: bool = False
    ) -> Tensor:
        """Attend from ``x`` to the projected ``k`` and ``v``.

        Args:
            x: `T × B × C`.
            k, v: `S × B × C`.
            mask: bool, true where a query may look, broadcast to `B × heads × T × S`.
            causal: position t looks at positions up to t; in place of ``mask``.
        """
        width = x.size(-1) // self.heads
        out = F.scaled_dot_product_attention(
            *(_aligned(self._split_heads(y)) for y in (self.q_proj(x), k, v)),
            attn_mask=mask,
            dropout_p=self.attention_dropout.rate,
            is_causal=causal,
            scale=width**-0.5,
        )
        return self.out_proj(out[..., :width].permute(2, 0, 1, 3).reshape(x.shape))

    def _split_heads(self, x: Tensor) -> Tensor:
        """`T × B × C` to `B × heads × T × C/heads`."""
        return x.unflatten(-1, (self.heads, -1)).permute(1, 2, 0, 3)


def _aligned(x: Tensor) -> Tensor:
    """``x`` with zeros up to a width that is a multiple of :data:`ALIGNMENT`, on a GPU."""
    lacking = -x.size(-1) % ALIGNMENT
    return F.pad(x, (0, lacking)) if lacking and x.device.type in ALIGNED_DEVICES else x


class SelfAttention(_Attention):
    """Attention of the sequence to itself; causal in the decoder."""

    def __init__(self, cfg: OperationConfig):
        super().__init__(cfg, kv_dim=cfg.channels)
        self.causal = cfg.causal

    def forward(self, x: Tensor, context: Context, incremental_state=None) -> Tensor:
        """`T × B × C` to the same shape; reads ``context.padding_mask``."""
        k, v = self.k_proj(x), self.v_proj(x)
        if incremental_state is not None:
            kept = self.recall(incremental_state)
            k, v = append(kept.get("k"), k), append(kept.get("v"), v)
            self.keep(incremental_state, k=k, v=v)
            return self.attend(x, k, v)
        if context.padding_mask is None:
            return self.attend(x, k, v, causal=self.causal)
        return self.attend(x, k, v, self._mask(context.padding_mask))

    def _mask(self, padding_mask: Tensor) -> Tensor:
        """`B × 1 × T × T`: no padding, and in the decoder nothing later."""
        mask = ~padding_mask[:, None, None, :]
        if self.causal:
            steps = padding_mask.size(1)
            whole = torch.ones(steps, steps, dtype=torch.bool, device=padding_mask.device)
            # Padding may look at itself, lest a softmax be over nothing; no one looks at it.
            mask = (mask & whole.tril()) | torch.eye(
                steps, dtype=torch.bool, device=padding_mask.device
            )
        return mask


class CrossAttention(_Attention):
    """Attention to the whole encoder output, `S × B × d`; the decoder's alone."""

    def __init__(self, cfg: OperationConfig):
        super().__init__(cfg, kv_dim=cfg.encoder_dim)

    def forward(self, x: Tensor, context: Context, incremental_state=None) -> Tensor:
        """`T × B × C` to the same shape; reads ``context.encoder_out`` and its mask."""
        mask = context.encoder_padding_mask
        if mask is not None:
            mask = ~mask[:, None, None, :]
        return self.attend(x, *self._keys_and_values(context, incremental_state), mask)

    def _keys_and_values(self, context: Context, incremental_state) -> tuple[Tensor, Tensor]:
        """Project the encoder output, once a sentence."""
        kept = {} if incremental_state is None else self.recall(incremental_state)
        if kept:
            return kept["k"], kept["v"]
        encoder_out = context.encoder_out.to(self.k_proj.weight.dtype)
        k, v = self.k_proj(encoder_out), self.v_proj(encoder_out)
        if incremental_state is not None:
            self.keep(incremental_state, k=k, v=v)
        return k, v

    def reorder_incremental_state(self, incremental_state, new_order: Tensor) -> None:
        """Follow a batch that shrinks; the beams of one sentence share one encoder output."""
        kept = self.recall(incremental_state)
        if kept and kept["k"].size(1) != new_order.size(0):
            super().reorder_incremental_state(incremental_state, new_order)
