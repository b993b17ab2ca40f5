"""Multi-head attention (Vaswani et al. 2017) to the sequence itself and to the encoder output."""

import torch
import torch.nn.functional as F
from torch import Tensor

from .base import Context, Dropout, Incremental, OperationConfig, linear

# In half precision, CUDA's memory-efficient kernel for masked attention needs head widths that are
# multiples of 8; with others (60 at d 960 and two splits) torch stores all T × S scores.
ALIGNMENT = 8
ALIGNED_DEVICES = ("cuda",)


def dot_product(q: Tensor, k: Tensor, v: Tensor, attn_mask: Tensor | None, **options) -> Tensor:
    """torch's ``scaled_dot_product_attention`` of tensors `heads × B × T × C/heads`.

    The kernel gets the batch first: its layout decides which scores dropout draws.
    """
    mask = None if attn_mask is None else attn_mask.transpose(0, 1)
    q, k, v = (x.transpose(0, 1) for x in (q, k, v))
    return F.scaled_dot_product_attention(q, k, v, mask, **options).transpose(0, 1)


class Attention(Incremental):
    """Heads, scaled dot products and the output projection.

    ``scaled_dot_product_attention`` computes in the dtype of its input. fairseq's own attention
    takes the softmax in float32 even in a float64 model.

    Attributes:
        dot_product: see the function; an export replaces it.
    """

    dot_product = staticmethod(dot_product)

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
            k, v: `heads × B × S × C/heads`.
            mask: bool, true where a query may look, broadcast to `heads × B × T × S`.
            causal: whether position t looks only at positions up to t; excludes ``mask``.

        Returns:
            Tensor `T × B × C`.
        """
        width = x.size(-1) // self.heads
        out = self.dot_product(
            *(_aligned(y) for y in (self._split_heads(self.q_proj(x)), k, v)),
            attn_mask=mask,
            dropout_p=self.attention_dropout.rate,
            is_causal=causal,
            scale=width**-0.5,
        )
        return self.out_proj(out[..., :width].permute(2, 1, 0, 3).reshape(x.shape))

    def project(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values of `S × B × D`, each `heads × B × S × C/heads`.

        In decoding they are kept so: to split them at every step takes most of an exported graph's
        time.
        """
        return self._split_heads(self.k_proj(x)), self._split_heads(self.v_proj(x))

    def _split_heads(self, x: Tensor) -> Tensor:
        """`T × B × C` to `heads × B × T × C/heads`."""
        return x.unflatten(-1, (self.heads, -1)).permute(2, 1, 0, 3)


def _aligned(x: Tensor) -> Tensor:
    """On a GPU, pad the last dimension with zeros to a multiple of :data:`ALIGNMENT`."""
    missing = -x.size(-1) % ALIGNMENT
    return F.pad(x, (0, missing)) if missing and x.device.type in ALIGNED_DEVICES else x


class SelfAttention(Attention):
    """Attention of the sequence to itself; causal in the decoder."""

    def __init__(self, cfg: OperationConfig):
        super().__init__(cfg, kv_dim=cfg.channels)
        self.causal = cfg.causal

    def forward(self, x: Tensor, context: Context, incremental_state=None) -> Tensor:
        """`T × B × C` to the same shape; reads ``context.padding_mask``."""
        k, v = self.project(x)
        if incremental_state is not None:
            kept = self.recall(incremental_state)
            if kept:
                k, v = torch.cat([kept["k"], k], 2), torch.cat([kept["v"], v], 2)
            self.keep(incremental_state, k=k, v=v)
            return self.attend(x, k, v)
        if context.padding_mask is None:
            return self.attend(x, k, v, causal=self.causal)
        return self.attend(x, k, v, self._mask(context.padding_mask))

    def _mask(self, padding_mask: Tensor) -> Tensor:
        """Return `1 × B × 1 × T` (causal: `1 × B × T × T`), true where a query may look."""
        mask = ~padding_mask[None, :, None, :]
        if self.causal:
            steps, device = padding_mask.size(1), padding_mask.device
            past = torch.ones(steps, steps, dtype=torch.bool, device=device).tril()
            # Padding looks at itself, because a softmax over nothing is NaN.
            mask = (mask & past) | torch.eye(steps, dtype=torch.bool, device=device)
        return mask


class CrossAttention(Attention):
    """Attention to the complete encoder output, `S × B × d`; only in the decoder."""

    def __init__(self, cfg: OperationConfig):
        super().__init__(cfg, kv_dim=cfg.encoder_dim)

    def forward(self, x: Tensor, context: Context, incremental_state=None) -> Tensor:
        """`T × B × C` to the same shape; reads ``context.encoder_out`` and its mask."""
        mask = context.encoder_padding_mask
        if mask is not None:
            mask = ~mask[None, :, None, :]
        # Projected once a sentence.
        kept = {} if incremental_state is None else self.recall(incremental_state)
        if not kept:
            k, v = self.project(context.encoder_out.to(x.dtype))
            kept = {"k": k, "v": v}
            if incremental_state is not None:
                self.keep(incremental_state, **kept)
        return self.attend(x, kept["k"], kept["v"], mask)

    def reorder_incremental_state(self, incremental_state, new_order: Tensor) -> None:
        """Follow a batch that shrinks; the beams of a sentence share one encoder output."""
        kept = self.recall(incremental_state)
        if kept and kept["k"].size(1) != new_order.size(0):
            super().reorder_incremental_state(incremental_state, new_order)
