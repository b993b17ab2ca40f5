"""The functions of a trained model that are exported: the encoder, if there is one, and a step of
the decoder.

Both call the model's own modules. The incremental state, which fairseq's decoders keep in a
dictionary, becomes the decoder's inputs and outputs. Nothing depends on the tokens' values or on
lengths: the encoder always has a padding mask, and the decoder none.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from fairseq.models import BaseFairseqModel, FairseqEncoderDecoderModel
from fairseq.models.transformer import TransformerDecoderBase, TransformerEncoderBase
from fairseq.modules import MultiheadAttention
from torch import Tensor, nn

from ..errors import InputError
from ..models.embedding import StackInput
from ..operations import Context, OperationConfig
from ..operations.attention import Attention, CrossAttention, SelfAttention

STEP = "step"  # the entry of an incremental state with the number of tokens decoded before
STEPS = 2  # decoded to find out which caches there are

State = dict[str, dict[str, Any]]


@dataclass(frozen=True)
class Cache:
    """A tensor of the incremental state.

    Attributes:
        name: the path of the module that keeps it, and its name there.
        key: the module's key in the state.
        entry: its name under the key.
        shape: numbers, and `"batch"`, `"past"` (tokens decoded before) or `"source"`; after
            `"batch"`, `"width"` is the number of hypotheses of each line, if they differ.
    """

    name: str
    key: str
    entry: str
    shape: tuple[int | str, ...]

    @property
    def of_source(self) -> bool:
        """Whether it depends on the source alone, as keys of the encoder output do."""
        return "source" in self.shape

    @property
    def batch(self) -> int:
        """The dimension of the lines, and of their hypotheses."""
        return self.shape.index("batch")

    def zeros(self, **sizes: int) -> Tensor:
        """Zeros, of which the decoder's own caches begin with `past=0`."""
        return torch.zeros([sizes.get(str(size), size) for size in self.shape])


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


class Encoder(nn.Module):
    """From source tokens `B × S` to a padding mask, bool `B × S`, and the caches of the source."""

    def __init__(self, model: FairseqEncoderDecoderModel, caches: list[Cache]):
        super().__init__()
        self.model, self.caches = model, [cache for cache in caches if cache.of_source]

    def forward(self, tokens: Tensor) -> tuple[Tensor, ...]:
        state = first_state(tokens.new_zeros(1))
        encoder_out, mask = encode(self.model.encoder, tokens)
        # The first step projects the encoder output; nothing else of it is returned.
        decode(self.model, tokens[:, :1], encoder_out, mask, state)
        return mask, *(state[cache.key][cache.entry] for cache in self.caches)


class Decoder(nn.Module):
    """A step of decoding.

    From the last tokens of W hypotheses of each line, `B × W`, the number of tokens before them
    `1`, K integers, all caches and, after an encoder, the source's padding mask to the logarithms
    of the next tokens' probabilities, `BW × V`, the K largest of them and their tokens, `BW × K`,
    and the caches that do not depend on the source alone.
    """

    def __init__(self, model: BaseFairseqModel, caches: list[Cache]):
        super().__init__()
        self.model, self.caches = model, caches

    def forward(
        self,
        tokens: Tensor,
        step: Tensor,
        likely: Tensor,
        values: list[Tensor],
        mask: Tensor | None = None,
    ) -> tuple[Tensor, ...]:
        state = first_state(step)
        for cache, value in zip(self.caches, values, strict=True):
            if not cache.of_source:
                value = value.flatten(cache.batch, cache.batch + 1)
            state.setdefault(cache.key, {})[cache.entry] = value
        # The caches replace the encoder's output.
        logits = decode(self.model, tokens, mask, mask, state)
        own = (
            state[cache.key][cache.entry].unflatten(cache.batch, tokens.shape)
            for cache in self.caches
            if not cache.of_source
        )
        scores = logits.log_softmax(-1)
        return scores, *scores.topk(likely.size(0)), *own


def has_encoder(model: BaseFairseqModel) -> bool:
    """Whether the model translates; a language model is a decoder alone."""
    return hasattr(model, "encoder")


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
    """Replaces ``scaled_dot_product_attention``, of which exporters transpose k at every step. An
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


def encode(encoder: nn.Module, tokens: Tensor) -> tuple[Tensor, Tensor]:
    """Encode tokens `B × S`: the output, `S × B × d`, and the padding mask, bool `B × S`."""
    if not isinstance(encoder, TransformerEncoderBase):
        out = encoder(tokens)
        return out["encoder_out"][0], out["encoder_padding_mask"][0]
    # fairseq's own forward passes the mask only if there is padding.
    mask = tokens.eq(encoder.padding_idx)
    x, _ = encoder.forward_embedding(tokens)
    x = (x * ~mask.unsqueeze(-1)).transpose(0, 1)
    for layer in encoder.layers:
        x = layer(x, encoder_padding_mask=mask)
    return (x if encoder.layer_norm is None else encoder.layer_norm(x)), mask


def decode(
    model: BaseFairseqModel,
    tokens: Tensor,
    encoder_out: Tensor | None,
    mask: Tensor | None,
    state: State,
) -> Tensor:
    """Decode one step from tokens `B × W`; return logits `BW × V`, and change the state."""
    out = None
    if encoder_out is not None:
        out = {"encoder_out": [encoder_out], "encoder_padding_mask": [mask]}
    return model.decoder(tokens.reshape(-1, 1), out, incremental_state=state)[0].squeeze(1)


def first_state(step: Tensor) -> State:
    """An incremental state without caches, at a step given as a tensor of shape `1`."""
    return {STEP: {STEP: step}}


@torch.no_grad()
def find_caches(model: BaseFairseqModel) -> list[Cache]:
    """Find the caches of a :func:`prepared` model, in the order of its modules.

    Which dimension is which follows from sizes: each size is changed alone.
    """
    sizes = {"batch": 2, "width": 2, "source": 3, "past": STEPS}
    found = _states(model, **sizes)
    changed = {name: _states(model, **sizes | {name: size + 1}) for name, size in sizes.items()}
    paths = {m._incremental_state_id: path for path, m in model.named_modules() if _has_state(m)}
    caches = []
    for key, entries in found.items():
        for entry, tensor in entries.items():
            shape: list[int | str] = []
            for i, size in enumerate(tensor.shape):
                # Of hypotheses, the size is batch times width: both change it.
                by = [name for name, s in changed.items() if s[key][entry].size(i) != size]
                shape += by or [size]
            name = f"{paths[key.partition('.')[0]]}.{entry}"
            caches.append(Cache(name, key, entry, tuple(shape)))
    return caches


def _has_state(module: nn.Module) -> bool:
    return hasattr(module, "_incremental_state_id") and hasattr(module, "recall")


def _states(model: BaseFairseqModel, batch: int, width: int, source: int, past: int) -> State:
    """The incremental state after ``past`` steps."""
    tokens = torch.full((batch, source), model.decoder.dictionary.eos())
    encoder_out, mask = encode(model.encoder, tokens) if has_encoder(model) else (None, None)
    state = first_state(torch.zeros(1, dtype=torch.long))
    for _ in range(past):
        decode(model, tokens[:, :1].expand(-1, width), encoder_out, mask, state)
    del state[STEP]
    return state
