"""Replacements of a trained model's modules, whose graphs have no branches on data and lengths."""

from __future__ import annotations

from copy import deepcopy
from functools import partial
from typing import Any

import torch
from fairseq.models import BaseFairseqModel
from fairseq.models.transformer import TransformerDecoderBase
from fairseq.modules import MultiheadAttention
from torch import Tensor, nn

from ..errors import InputError
from ..models.embedding import StackInput
from ..operations import Context, OperationConfig
from ..operations.attention import Attention, CrossAttention, SelfAttention
from .network import STEP, State, has_encoder


class Positions(nn.Module):
    """A table of positional embeddings, for sequences and for a step of decoding.

    Args:
        positions: fairseq's module, learned or sinusoidal.
        padding_idx: the number of the padding symbol.
        longest: the longest sequence.
    """

    def __init__(self, positions: nn.Module, padding_idx: int, longest: int):
        super().__init__()
        table = positions.weights if hasattr(positions, "weights") else positions.weight
        self.register_buffer("table", table.detach()[: padding_idx + 1 + longest])
        self.padding_idx = padding_idx

    def forward(self, tokens: Tensor, incremental_state: State | None = None) -> Tensor:
        """`B × T × d` for tokens `B × T`; `1 × 1 × d` for a step."""
        if incremental_state is not None:
            return self.table[incremental_state[STEP][STEP] + self.padding_idx + 1].unsqueeze(0)
        real = tokens.ne(self.padding_idx).long()
        return self.table[real.cumsum(1) * real + self.padding_idx]


class FairseqAttention(nn.Module):
    """fairseq's attention, computed by ours; called as fairseq's."""

    def __init__(self, module: MultiheadAttention):
        super().__init__()
        width = module.embed_dim
        cfg = OperationConfig(width, module.kdim, 0, module.num_heads, causal=False)
        kind = CrossAttention if module.encoder_decoder_attention else SelfAttention
        self.operation = kind(cfg)
        for name in ("q_proj", "k_proj", "v_proj", "out_proj"):
            setattr(self.operation, name, getattr(module, name))

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        incremental_state: State | None = None,
        **unused: Any,
    ) -> tuple[Tensor, None]:
        """Return `T × B × C`, and no weights."""
        context = Context(key, key_padding_mask, key_padding_mask)
        return self.operation(query, context, incremental_state), None

    def _get_input_buffer(self, incremental_state: State | None) -> dict[str, Tensor]:
        """fairseq's layer asks for the cache, which it only uses with --cross-self-attention."""
        return {}


def prepared(model: BaseFairseqModel) -> BaseFairseqModel:
    """Return a copy in float32, without branches on data and lengths.

    Raises:
        InputError: the model has parts that are not exported.
    """
    model = deepcopy(model).float().eval()
    encoders = [model.encoder] if has_encoder(model) else []
    for stack in (*encoders, model.decoder):
        longest = stack.max_positions()
        stack_input = getattr(stack, "input", None)
        if isinstance(stack_input, StackInput):
            stack_input.padded = stack in encoders
            _replace_positions(stack_input, "positions", longest)
        else:
            _replace_positions(stack, "embed_positions", longest)
    if isinstance(model.decoder, TransformerDecoderBase):
        if model.decoder.adaptive_softmax is not None:
            raise InputError("--adaptive-softmax-cutoff: a model with it cannot be exported")
        if not isinstance(model.decoder.embed_tokens, nn.Embedding):
            raise InputError(
                "--adaptive-input, --character-embeddings: a model with them cannot be exported"
            )
        # The decoder then makes its mask of one step without looking whether there is padding.
        model.decoder.cross_self_attention = True
    for module in list(model.modules()):
        for name, child in module.named_children():
            if isinstance(child, MultiheadAttention):
                setattr(module, name, FairseqAttention(child))
    for module in model.modules():
        if isinstance(module, Attention):
            module.dot_product = dot_product
        if isinstance(module, CrossAttention):
            module.attend = partial(attend_from_hypotheses, module)
    return model


def attend_from_hypotheses(
    attention: CrossAttention, x: Tensor, k: Tensor, v: Tensor, mask: Tensor
) -> Tensor:
    """One step's attention to a source, `1 × BW × C`, whose keys the W hypotheses of each of B
    lines share."""
    lines, width = k.size(1), k.size(-1)
    q = attention.q_proj(x).view(lines, -1, attention.heads, width).permute(2, 0, 1, 3)
    out = dot_product(q, k, v, mask, width**-0.5)
    return attention.out_proj(out.permute(1, 2, 0, 3).reshape(x.shape))


def dot_product(
    q: Tensor, k: Tensor, v: Tensor, attn_mask: Tensor | None, scale: float, **unused: Any
) -> Tensor:
    """Replaces the operations' ``dot_product``, of which exporters transpose k at every step. An
    encoder or a step has neither dropout nor a causal mask."""
    scores = (q * scale) @ k.transpose(-1, -2)
    if attn_mask is not None:
        scores = scores + torch.zeros_like(attn_mask, dtype=q.dtype).masked_fill(
            ~attn_mask, -torch.inf
        )
    return scores.softmax(-1) @ v


def _replace_positions(module: nn.Module, name: str, longest: int) -> None:
    positions = getattr(module, name)
    if positions is not None:
        setattr(module, name, Positions(positions, module.padding_idx, longest))
