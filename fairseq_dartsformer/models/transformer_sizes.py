"""Smaller sizes of fairseq's transformer (Figure 5); its base and big are fairseq's own."""

from __future__ import annotations

from argparse import Namespace

from fairseq.models import register_model_architecture
from fairseq.models.transformer.transformer_legacy import base_architecture

HEAD_WIDTH = 64  # as at base and big size (Vaswani et al. 2017)


def _fill_sizes(args: Namespace, width: int) -> None:
    """Fill in sizes that the user does not give: width, and an ffn 4 times as wide."""
    for stack in ("encoder", "decoder"):
        sizes = {
            f"{stack}_embed_dim": width,
            f"{stack}_ffn_embed_dim": 4 * width,
            f"{stack}_attention_heads": width // HEAD_WIDTH,
        }
        vars(args).update({name: getattr(args, name, size) for name, size in sizes.items()})
    base_architecture(args)


@register_model_architecture("transformer", "transformer_small")
def transformer_small(args: Namespace) -> None:
    """Width 128."""
    _fill_sizes(args, 128)


@register_model_architecture("transformer", "transformer_medium")
def transformer_medium(args: Namespace) -> None:
    """Width 256."""
    _fill_sizes(args, 256)
