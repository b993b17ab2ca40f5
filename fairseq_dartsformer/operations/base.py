"""Base of the operations: configuration, context, residual and norm, incremental state."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from fairseq.incremental_decoding_utils import with_incremental_state
from fairseq.modules import FairseqDropout
from torch import Tensor, nn

from ..errors import InputError


@dataclass(frozen=True)
class OperationConfig:
    """Sizes and rates of an operation.

    Attributes:
        channels: width C of a split, d/n.
        encoder_dim: width of the encoder output that cross attention reads, d.
        ffn_dim: inner width of the feed-forward network.
        attention_heads: heads of attention and of dynamic convolution; divides C.
        causal: whether position t sees only positions up to t (in the decoder).
        dropout, attention_dropout, activation_dropout, weight_dropout: probabilities, applied where
            fairseq's transformer and lightconv apply them.
        attention_bias: whether the projections of attention have biases.
        norm: where the norm is, a key of :data:`NORMS`.
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
    norm: str = "post"


class Context(NamedTuple):
    """Inputs of an operation besides `T × B × C`.

    Attributes:
        encoder_out: `S × B × d`; only in the decoder.
        encoder_padding_mask: bool `B × S`, true at padding; ``None`` without padding.
        padding_mask: the same for the operation's input, `B × T`. In incremental decoding it is
            `B × 1`, for the last step; earlier steps are never padding.
    """

    encoder_out: Tensor | None = None
    encoder_padding_mask: Tensor | None = None
    padding_mask: Tensor | None = None


class Dropout(FairseqDropout):
    """fairseq's dropout, for operations that pass their rate to a fused kernel, too."""

    @property
    def rate(self) -> float:
        """The probability that applies in the present mode."""
        return self.p if self.training or self.apply_during_inference else 0.0


class Normed(nn.Module):
    """Base of the ways to put a norm, and a residual, around an operation `o`.

    They are inside the operation because the reversible coupling adds only `G_k`, without a norm.

    Attributes:
        formula: what the class computes, without dropout.

    Args:
        operation: `o`.
        cfg: sizes and rates.
        name: the operation's name in errors.

    Raises:
        InputError: the operation changed the shape of its input; broadcasting would hide some
            changes.
    """

    formula: ClassVar[str]

    def __init__(self, operation: nn.Module, cfg: OperationConfig, name: str):
        super().__init__()
        self.name = name
        self.operation = operation
        self.dropout = Dropout(cfg.dropout, module_name=type(self).__name__)
        self.layer_norm = nn.LayerNorm(cfg.channels)

    def cast(self, x: Tensor) -> Tensor:
        """Return ``x`` in the dtype of the weights."""
        return x.to(self.layer_norm.weight.dtype)

    def run(self, x: Tensor, context: Context, incremental_state) -> Tensor:
        """Return `dropout(o(x))`, shaped as ``x``."""
        out = self.operation(x, context, incremental_state)
        if not isinstance(out, Tensor) or out.shape != x.shape:
            found = tuple(out.shape) if isinstance(out, Tensor) else type(out).__name__
            raise InputError(
                f"operation {self.name} returned {found}, it must be a tensor shaped as its input, "
                f"length × batch × width: {tuple(x.shape)}"
            )
        return self.dropout(out)


class PostNorm(Normed):
    """`LayerNorm(x + dropout(o(x)))` (Section 2.5)."""

    formula = "LN(x + o(x))"

    def forward(self, x: Tensor, context: Context, incremental_state=None) -> Tensor:
        """`T × B × C` to the same shape, in the dtype of the weights."""
        x = self.cast(x)
        return self.layer_norm(x + self.run(x, context, incremental_state))


class PreNorm(Normed):
    """`x + dropout(o(LayerNorm(x)))` (Xiong et al. 2020, arXiv:2002.04745)."""

    formula = "x + o(LN(x))"

    def forward(self, x: Tensor, context: Context, incremental_state=None) -> Tensor:
        """`T × B × C` to the same shape, in the dtype of the weights."""
        x = self.cast(x)
        return x + self.run(self.layer_norm(x), context, incremental_state)


class BarePreNorm(Normed):
    """`dropout(o(LayerNorm(x)))`: Pre-LN whose residual is the reversible coupling's."""

    formula = "o(LN(x))"

    def forward(self, x: Tensor, context: Context, incremental_state=None) -> Tensor:
        """`T × B × C` to the same shape, in the dtype of the weights."""
        return self.run(self.layer_norm(self.cast(x)), context, incremental_state)


# The values of --operation-norm and of a genotype's norm; the paper's is the default.
NORMS: dict[str, type[Normed]] = {"post": PostNorm, "pre": PreNorm, "pre-bare": BarePreNorm}


@with_incremental_state
class Incremental(nn.Module):
    """Base of operations that keep tensors between the steps of decoding: `T × B × C`, or others
    whose second dimension is the batch."""

    def recall(self, incremental_state) -> dict[str, Tensor]:
        """Return the kept tensors by name; none at the first step."""
        return self.get_incremental_state(incremental_state, "kept") or {}

    def keep(self, incremental_state, **tensors: Tensor) -> None:
        """Keep ``tensors`` instead of those kept before."""
        self.set_incremental_state(incremental_state, "kept", tensors)

    def reorder_incremental_state(self, incremental_state, new_order: Tensor) -> None:
        """Follow the beams: sentence i of the batch continues ``new_order[i]``."""
        kept = self.recall(incremental_state)
        if kept:
            reordered = {name: t.index_select(1, new_order) for name, t in kept.items()}
            self.keep(incremental_state, **reordered)


def masked(x: Tensor, padding_mask: Tensor | None) -> Tensor:
    """Return ``x``, `T × B × C`, with zeros at padding, `B × T`."""
    if padding_mask is None:
        return x
    return x.masked_fill(padding_mask.t().unsqueeze(-1), 0.0)


def linear(in_features: int, out_features: int, bias: bool = True) -> nn.Linear:
    """Make a linear map with Glorot's uniform initialisation and zero bias."""
    module = nn.Linear(in_features, out_features, bias)
    nn.init.xavier_uniform_(module.weight)
    if bias:
        nn.init.zeros_(module.bias)
    return module


def append(buffer: Tensor | None, x: Tensor, limit: int | None = None) -> Tensor:
    """Append ``x``, `T × B × C`, to earlier steps, and return the last ``limit`` steps."""
    joined = x if buffer is None else torch.cat([buffer, x])
    return joined if limit is None else joined[max(0, len(joined) - limit) :]
