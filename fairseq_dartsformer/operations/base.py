"""What every operation is built from, what it sees, and its wrapping."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from fairseq.incremental_decoding_utils import with_incremental_state
from fairseq.modules import FairseqDropout
from torch import Tensor, nn

from ..errors import InputError


@dataclass(frozen=True)
class OperationConfig:
    """Sizes and rates that an operation is built from.

    Attributes:
        channels: width C of a split, d/n.
        encoder_dim: width of the encoder output that cross attention reads, d.
        ffn_dim: inner width of the feed-forward network.
        attention_heads: heads of attention and of dynamic convolution; divides C.
        causal: position t sees positions up to t alone (the decoder).
        dropout, attention_dropout, activation_dropout, weight_dropout: probabilities, acting where
            fairseq's transformer and lightconv have them.
        attention_bias: whether the projections of attention have biases.
    """

    channels: int
    encoder_dim: int
    ffn_dim: int
    attention_heads: int
    causal: bool
    dropout: float = 0.0
    attention_dropout: float = 0.0
    activation_dropout: float = 0.0
    weight_dropout: float = 0.0
    attention_bias: bool = True


class Context(NamedTuple):
    """What an operation sees besides its input.

    Attributes:
        encoder_out: `S × B × d`; in the decoder.
        encoder_padding_mask: bool `B × S`, true at padding; ``None`` where there is none.
        padding_mask: bool `B × T` of the operation's own input, likewise. While decoding step by
            step that is `B × 1`, of the last step; of those before it none is padding.
    """

    encoder_out: Tensor | None = None
    encoder_padding_mask: Tensor | None = None
    padding_mask: Tensor | None = None


class Dropout(FairseqDropout):
    """fairseq's dropout, with masks that take a CPU a third of the time.

    torch draws 64 random bits a number there, in one thread, unless the processor is Intel's; 16
    are enough: the probability is right to 1e-5, and the scale is that of the true one.
    """

    FAST_DEVICES = ("cpu",)

    @property
    def rate(self) -> float:
        """The probability that acts now."""
        return self.p if self.training or self.apply_during_inference else 0.0

    def forward(self, x: Tensor, inplace: bool = False) -> Tensor:
        """A tensor shaped like ``x``."""
        if x.device.type not in self.FAST_DEVICES or self.rate == 0:
            return super().forward(x, inplace)
        dropped = min(round(self.p * 2**16), 2**16 - 1)
        words = torch.empty((x.numel() + 3) // 4, dtype=torch.int64, device=x.device)
        bits = words.random_(-(2**63), None).view(torch.int16)[: x.numel()].view(x.shape)
        return x.mul(bits.ge(dropped - 2**15)).mul_(2**16 / (2**16 - dropped))


class PostNorm(nn.Module):
    """`LayerNorm(x + dropout(o(x)))`: the residual and norm of every operation (Section 2.5).

    They stand within the operation because the reversible stream can carry neither.

    Raises:
        InputError: the operation, which errors call ``name``, returned another shape than its
            input's; broadcasting would hide some of these.
    """

    def __init__(self, operation: nn.Module, cfg: OperationConfig, name: str):
        super().__init__()
        self.name = name
        self.operation = operation
        self.dropout = Dropout(cfg.dropout, module_name=type(self).__name__)
        self.layer_norm = nn.LayerNorm(cfg.channels)

    def forward(self, x: Tensor, context: Context, incremental_state=None) -> Tensor:
        """`T × B × C` to the same shape, in the dtype of the weights."""
        x = x.to(self.layer_norm.weight.dtype)
        out = self.operation(x, context, incremental_state)
        if not isinstance(out, Tensor) or out.shape != x.shape:
            found = tuple(out.shape) if isinstance(out, Tensor) else type(out).__name__
            raise InputError(
                f"operation {self.name} returned {found}, it must be a tensor shaped as its input, "
                f"length × batch × width: {tuple(x.shape)}"
            )
        return self.layer_norm(x + self.dropout(out))


@with_incremental_state
class Incremental(nn.Module):
    """An operation that keeps tensors `T × B × C` from step to step of decoding."""

    def recall(self, incremental_state) -> dict[str, Tensor]:
        """What was kept; nothing at the first step."""
        return self.get_incremental_state(incremental_state, "kept") or {}

    def keep(self, incremental_state, **tensors: Tensor) -> None:
        """Keep ``tensors`` in place of what was kept."""
        self.set_incremental_state(incremental_state, "kept", tensors)

    def reorder_incremental_state(self, incremental_state, new_order: Tensor) -> None:
        """Follow the beams: sentence i of the batch goes on from ``new_order[i]``."""
        kept = self.recall(incremental_state)
        if kept:
            reordered = {name: t.index_select(1, new_order) for name, t in kept.items()}
            self.keep(incremental_state, **reordered)


def masked(x: Tensor, padding_mask: Tensor | None) -> Tensor:
    """``x`` (`T × B × C`) with zeros at the padding (`B × T`)."""
    if padding_mask is None:
        return x
    return x.masked_fill(padding_mask.t().unsqueeze(-1), 0.0)


def linear(in_features: int, out_features: int, bias: bool = True) -> nn.Linear:
    """A linear map with Glorot's uniform initialisation and no bias at first."""
    module = nn.Linear(in_features, out_features, bias)
    nn.init.xavier_uniform_(module.weight)
    if bias:
        nn.init.zeros_(module.bias)
    return module


def append(buffer: Tensor | None, x: Tensor, limit: int | None = None) -> Tensor:
    """``x`` (`T × B × C`) behind the steps before it, the last ``limit`` steps of both."""
    joined = x if buffer is None else torch.cat([buffer, x])
    return joined if limit is None else joined[max(0, len(joined) - limit) :]
