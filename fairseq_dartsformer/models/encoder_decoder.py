"""Encoder and decoder: input, stack, final LayerNorm, and the decoder's output layer."""

from typing import Any

import torch
from fairseq.data import Dictionary
from fairseq.models import FairseqEncoder, FairseqIncrementalDecoder
from torch import Tensor, nn

from ..operations import Context
from ..operations.base import linear
from ..reversible.coupling import Mixtures, Partial
from ..search_space.relaxation import Relaxation, softmax
from .config import SizeConfig
from .embedding import StackInput


class _CoderBase(nn.Module):
    """Base of encoder and decoder; a mixin in front of fairseq's class.

    Attributes:
        relaxation: how alpha becomes mixing weights; a search strategy may set another.
        mixtures: what runs instead of the candidates that alpha mixes, unless ``None``.
        active: of each searched node the candidates that have not been pruned; ``None`` for all.

    Args:
        cfg: the model's options.
        dictionary: symbols of the source or of the target.
        stack_input: embeds them.
        stack: the layers.
        alpha: `s × searched nodes × candidates` of a supernet, ``None`` in a derived model.
    """

    relaxation: Relaxation = staticmethod(softmax)
    mixtures: Mixtures = None
    active: list[list[list[int]]] | None = None

    def __init__(
        self,
        cfg: SizeConfig,
        dictionary: Dictionary,
        stack_input: StackInput,
        stack: nn.Module,
        alpha: nn.Parameter | None,
    ):
        super().__init__(dictionary)
        # The first parameter: `legacy_ddp` sums gradients in a buffer of the first parameter's
        # dtype, and alpha's float32 keeps them from being rounded.
        self.register_parameter("alpha", alpha)
        if alpha is not None:
            everything = torch.ones_like(alpha, dtype=torch.bool)
            self.register_buffer("remaining", everything, persistent=False)
        self.input = stack_input
        self.stack = stack
        self.layer_norm = nn.LayerNorm(cfg.hidden_dim)

    @property
    def mask(self) -> Tensor | None:
        """The mask of the candidates that remain, shaped like alpha; ``None`` if all do."""
        return None if self.active is None else self.remaining

    @property
    def scores(self) -> Tensor:
        """alpha, minus infinity where pruned."""
        return self.alpha.masked_fill(~self.remaining, -torch.inf)

    def mixing_weights(self) -> Tensor:
        """Return the mixing weights of a supernet, `s × searched nodes × candidates`."""
        return self.relaxation(self.alpha, self.mask)

    def keep(self, remaining: Tensor) -> None:
        """Prune all candidates but those that the mask, shaped like alpha, names."""
        self.remaining.copy_(remaining)
        self.active = None
        if not self.remaining.all():
            self.active = [
                [row.nonzero().flatten().tolist() for row in layer] for layer in self.remaining
            ]

    def _save_to_state_dict(self, destination: dict, prefix: str, keep_vars: bool) -> None:
        """Save the mask of the remaining candidates, too, if some have been pruned."""
        super()._save_to_state_dict(destination, prefix, keep_vars)
        if self.active is not None:
            destination[prefix + "remaining"] = self.remaining

    def _load_from_state_dict(self, state_dict: dict, prefix: str, *args: Any) -> None:
        super()._load_from_state_dict(state_dict, prefix, *args)
        if self.alpha is not None:
            mask = prefix + "remaining"
            self.keep(state_dict.get(mask, torch.ones_like(self.remaining)))
            *_, unexpected, _ = args
            if mask in unexpected:
                unexpected.remove(mask)

    def mix(self, weights: Tensor) -> Mixtures:
        """Mix the candidates that have not been pruned by ``weights``."""
        return weights if self.active is None else Partial(weights, self.active)

    def run_stack(self, x: Tensor, context: Context, **state: Any) -> Tensor:
        """Run the stack and the final LayerNorm on `T × B × d`, in the dtype of the weights."""
        mixtures = self.mixtures
        if mixtures is None and self.alpha is not None:
            mixtures = self.mix(self.mixing_weights())
        x = self.stack(x, mixtures, context, **state)
        return self.layer_norm(x.to(self.layer_norm.weight.dtype))

    def max_positions(self) -> int:
        return self.input.max_positions

    def _apply(self, fn, recurse: bool = True):
        """Move and cast as usual, but keep alpha in float32: half precision loses its steps."""
        before = None if self.alpha is None else (self.alpha.data, self.alpha.grad)
        super()._apply(fn, recurse)
        alpha = self.alpha
        if alpha is not None and alpha.dtype.itemsize < torch.float32.itemsize:
            data, grad = (None if t is None else t.to(alpha.device, torch.float32) for t in before)
            alpha.grad = None
            alpha.data = data
            alpha.grad = grad
        return self


class Encoder(_CoderBase, FairseqEncoder):
    """Encoder; arguments as :class:`_CoderBase`."""

    def forward(
        self, src_tokens: Tensor, src_lengths: Tensor | None = None, **unused: Any
    ) -> dict[str, list[Tensor]]:
        """Encode tokens `B × S`.

        Returns:
            ``encoder_out`` [`S × B × d`] and ``encoder_padding_mask`` [bool `B × S`], which is
            empty without padding.
        """
        x, mask = self.input(src_tokens)
        x = self.run_stack(x, Context(padding_mask=mask))
        return {"encoder_out": [x], "encoder_padding_mask": [] if mask is None else [mask]}

    def reorder_encoder_out(
        self, encoder_out: dict[str, list[Tensor]], new_order: Tensor
    ) -> dict[str, list[Tensor]]:
        """Select sentences of the batch, as beam search does."""
        batch_dim = {"encoder_out": 1, "encoder_padding_mask": 0}
        return {
            name: [t.index_select(batch_dim[name], new_order) for t in tensors]
            for name, tensors in encoder_out.items()
        }


class Decoder(_CoderBase, FairseqIncrementalDecoder):
    """Decoder; arguments as :class:`_CoderBase`.

    The output layer maps d to e, then e to V; fairseq's sharing options tie the latter to the
    embedding.
    """

    def __init__(
        self, cfg: SizeConfig, dictionary: Dictionary, stack_input: StackInput, *stack_and_alpha
    ):
        super().__init__(cfg, dictionary, stack_input, *stack_and_alpha)
        self.project_out = linear(cfg.hidden_dim, cfg.embed_dim, bias=False)
        self.output_projection = nn.Linear(cfg.embed_dim, len(dictionary), bias=False)
        if cfg.share_decoder_input_output_embed or getattr(cfg, "share_all_embeddings", False):
            self.output_projection.weight = stack_input.embedding.tokens.weight
        else:
            nn.init.normal_(self.output_projection.weight, std=cfg.embed_dim**-0.5)

    def forward(
        self, *args: Any, features_only: bool = False, **kwargs: Any
    ) -> tuple[Tensor, dict[str, Any]]:
        """Return logits `B × T × V` and extras; arguments as for :meth:`extract_features`."""
        x, extra = self.extract_features(*args, **kwargs)
        return (x if features_only else self.output_layer(x)), extra

    def extract_features(
        self,
        prev_output_tokens: Tensor,
        encoder_out: dict[str, list[Tensor]] | None = None,
        incremental_state: dict[str, dict[str, Tensor | None]] | None = None,
        **unused: Any,
    ) -> tuple[Tensor, dict[str, Any]]:
        """Decode up to the output layer.

        Args:
            prev_output_tokens: `B × T`.
            encoder_out: the encoder's output; ``None`` in a language model.
            incremental_state: if given, only the last step is computed.

        Returns:
            Features `B × T × e`, and fairseq's dictionary of extras.
        """
        x, padding_mask = self.input(prev_output_tokens, incremental_state)
        context = Context(padding_mask=padding_mask)
        if encoder_out is not None:
            (source,), masks = encoder_out["encoder_out"], encoder_out["encoder_padding_mask"]
            context = Context(source, masks[0] if masks else None, padding_mask)
        state = {} if incremental_state is None else {"incremental_state": incremental_state}
        x = self.run_stack(x, context, **state)
        return self.project_out(x.transpose(0, 1)), {"attn": [None], "inner_states": []}

    def output_layer(self, features: Tensor, **unused: Any) -> Tensor:
        """Features `B × T × e` to logits `B × T × V`."""
        return self.output_projection(features)
