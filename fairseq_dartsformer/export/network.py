"""The functions of a trained model that are exported: the encoder, if there is one, and a step of
the decoder.

Both call the modules of a prepared model, see :mod:`.replacements`. The incremental state, which
fairseq's decoders keep in a dictionary, becomes the decoder's inputs and outputs. Nothing depends
on the tokens' values or on lengths: the encoder always has a padding mask, and the decoder none.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from fairseq.models import BaseFairseqModel, FairseqEncoderDecoderModel
from fairseq.models.transformer import TransformerEncoderBase
from torch import Tensor, nn

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
    """Find the caches of a prepared model, in the order of its modules.

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
