"""The Evolved Transformer (So et al. 2019): fairseq's transformer with evolved cells for layers.

Embeddings, positions, their sharing and the output layer are fairseq's. tensor2tensor also adds an
embedding of the target language's number, which is left out: with one language it is a constant.
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from math import lcm

from fairseq.data import Dictionary
from fairseq.models import register_model
from fairseq.models.transformer import (
    TransformerConfig,
    TransformerDecoderBase,
    TransformerEncoderBase,
    TransformerModelBase,
)
from fairseq.tasks import FairseqTask
from torch import nn

from ..errors import InputError
from ..operations import OperationConfig
from .architectures import fill_sizes, register_sizes, remember
from .checkpoint_checks import CheckedModel
from .config import EvolvedConfig
from .embedding import load_pretrained
from .evolved_cells import NORM_EPSILON, DecoderCell, EncoderCell, doubled_heads
from .hub import HubModel
from .option_checks import check_sizes

DEPTH = 2  # layers of a cell


class EvolvedEncoder(TransformerEncoderBase):
    """fairseq's encoder with :class:`EncoderCell` for layers."""

    def build_encoder_layer(self, cfg: TransformerConfig) -> EncoderCell:
        return EncoderCell(_cell_config(cfg, causal=False))


class EvolvedDecoder(TransformerDecoderBase):
    """fairseq's decoder with :class:`DecoderCell` for layers."""

    def build_decoder_layer(
        self, cfg: TransformerConfig, no_encoder_attn: bool = False
    ) -> DecoderCell:
        return DecoderCell(_cell_config(cfg, causal=True))


@register_model("evolved_transformer", dataclass=EvolvedConfig)
class EvolvedTransformerModel(CheckedModel, HubModel, TransformerModelBase):
    """The Evolved Transformer, by default with 3 encoder cells and 4 decoder cells."""

    NAME = "evolved_transformer"

    @classmethod
    def add_args(cls, parser: ArgumentParser) -> None:
        """Add the options of :class:`EvolvedConfig` instead of fairseq's transformer's."""
        super(TransformerModelBase, cls).add_args(parser)

    @classmethod
    def build_model(cls, cfg: EvolvedConfig, task: FairseqTask) -> EvolvedTransformerModel:
        """Build the model; raise an :class:`InputError` if options do not fit together."""
        fill_sizes(cfg, cls.NAME)
        if cfg.activation_dropout is None:
            remember(cfg, "activation_dropout", cfg.dropout)
        check_sizes(cfg, task)
        _check_cells(cfg)
        model = super().build_model(_transformer_config(cfg), task)
        for stack in (model.encoder, model.decoder):
            stack.layer_norm.eps = NORM_EPSILON
        return model

    @classmethod
    def build_embedding(
        cls, cfg: TransformerConfig, dictionary: Dictionary, embed_dim: int, path: str | None = None
    ) -> nn.Embedding:
        """Make the embedding of the source or the target, `V × d`; raise an :class:`InputError` if
        the pre-trained embeddings at ``path`` cannot be read."""
        embedding = super().build_embedding(cfg, dictionary, embed_dim)
        if path is not None:
            load_pretrained(embedding, path, dictionary, "--hidden-dim")
        return embedding

    @classmethod
    def build_encoder(
        cls, cfg: TransformerConfig, src_dict: Dictionary, embed_tokens: nn.Embedding
    ) -> EvolvedEncoder:
        return EvolvedEncoder(cfg, src_dict, embed_tokens)

    @classmethod
    def build_decoder(
        cls, cfg: TransformerConfig, tgt_dict: Dictionary, embed_tokens: nn.Embedding
    ) -> EvolvedDecoder:
        return EvolvedDecoder(cfg, tgt_dict, embed_tokens)


def _check_cells(cfg: EvolvedConfig) -> None:
    """Check that depths are even, and that heads and branches divide the width."""
    for name, layers in (("encoder", cfg.encoder_layers), ("decoder", cfg.decoder_layers)):
        if layers % DEPTH:
            raise InputError(
                f"--{name}-layers is {layers}, it must be even: a cell is {DEPTH} layers deep"
            )
    heads = cfg.attention_heads
    divisor = lcm(2, heads, doubled_heads(heads))
    if cfg.hidden_dim % divisor:
        raise InputError(
            f"--hidden-dim is {cfg.hidden_dim}, with --attention-heads {heads} it must be a "
            f"multiple of {divisor}: attention of {heads} and of {doubled_heads(heads)} heads "
            "divides it, and a convolution has half of it"
        )


def _transformer_config(cfg: EvolvedConfig) -> TransformerConfig:
    """Return the options of fairseq's transformer, with a cell for a layer."""
    sizes = {"decoder_input_dim": cfg.hidden_dim, "decoder_output_dim": cfg.hidden_dim}
    for stack in ("encoder", "decoder"):
        sizes |= {
            f"{stack}_embed_dim": cfg.hidden_dim,
            f"{stack}_ffn_embed_dim": cfg.ffn_dim,
            f"{stack}_attention_heads": cfg.attention_heads,
            f"{stack}_layers": getattr(cfg, f"{stack}_layers") // DEPTH,
            f"{stack}_normalize_before": True,
        }
    return TransformerConfig.from_namespace(Namespace(**{**cfg, **sizes}))


def _cell_config(cfg: TransformerConfig, causal: bool) -> OperationConfig:
    sizes = cfg.encoder  # the decoder's are equal
    return OperationConfig(
        channels=sizes.embed_dim,
        encoder_dim=sizes.embed_dim,
        ffn_dim=sizes.ffn_embed_dim,
        attention_heads=sizes.attention_heads,
        causal=causal,
        dropout=cfg.dropout,
        attention_dropout=cfg.attention_dropout,
        activation_dropout=cfg.activation_dropout,
        attention_bias=False,
    )


register_sizes(EvolvedTransformerModel.NAME)
