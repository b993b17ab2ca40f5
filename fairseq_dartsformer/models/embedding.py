"""Factorised token embedding (Section 3.2) and the input of a stack."""

from __future__ import annotations

import math

import torch
from fairseq import utils
from fairseq.data import Dictionary
from fairseq.modules import PositionalEmbedding
from torch import Tensor, nn

from ..errors import InputError
from ..operations.base import Dropout, linear
from .config import SizeConfig


class FactorizedEmbedding(nn.Module):
    """V×e, then e×d: a token's row, scaled by the square root of e, projected to width d.

    Args:
        cfg: the model's options.
        dictionary: V symbols.
        path: pre-trained V×e vectors in word2vec's text format, or ``None``.
    """

    def __init__(self, cfg: SizeConfig, dictionary: Dictionary, path: str | None = None):
        super().__init__()
        self.scale = 1.0 if cfg.no_scale_embedding else math.sqrt(cfg.embed_dim)
        self.tokens = nn.Embedding(len(dictionary), cfg.embed_dim, dictionary.pad())
        nn.init.normal_(self.tokens.weight, std=cfg.embed_dim**-0.5)
        nn.init.zeros_(self.tokens.weight[dictionary.pad()])
        if path is not None:
            load_pretrained(self.tokens, path, dictionary, "--embed-dim")
        self.projection = linear(cfg.embed_dim, cfg.hidden_dim, bias=False)

    def forward(self, tokens: Tensor) -> Tensor:
        """Token indices `B × T` to `B × T × d`."""
        return self.projection(self.scale * self.tokens(tokens))


class StackInput(nn.Module):
    """Embedding, positions and dropout: from tokens to the input of a reversible stack.

    Args:
        cfg: the model's options.
        embedding: shared by both stacks under ``--share-all-embeddings``.
        max_positions: longest sequence.
        learned_positions: learned positions instead of sinusoids.
    """

    def __init__(
        self,
        cfg: SizeConfig,
        embedding: FactorizedEmbedding,
        max_positions: int,
        learned_positions: bool,
    ):
        super().__init__()
        self.embedding = embedding
        self.padding_idx = embedding.tokens.padding_idx
        self.positions = None
        if not cfg.no_token_positional_embeddings:
            self.positions = PositionalEmbedding(
                max_positions, cfg.hidden_dim, self.padding_idx, learned=learned_positions
            )
        self.layer_norm = nn.LayerNorm(cfg.hidden_dim) if cfg.layernorm_embedding else None
        self.dropout = Dropout(cfg.dropout, module_name=type(self).__name__)
        self.max_positions = max_positions
        if self.positions is not None:
            self.max_positions = min(max_positions, self.positions.max_positions)

    def forward(self, tokens: Tensor, incremental_state=None) -> tuple[Tensor, Tensor | None]:
        """Embed tokens `B × T`; with an incremental state the last step alone.

        Returns:
            The stream `T × B × d`, and its padding mask, bool `B × T`, ``None`` without padding.
        """
        positions = None
        if self.positions is not None:
            positions = self.positions(tokens, incremental_state=incremental_state)
        if incremental_state is not None:
            tokens = tokens[:, -1:]
            positions = None if positions is None else positions[:, -1:]
        x = self.embedding(tokens)
        x = x.to(torch.promote_types(x.dtype, torch.float32))
        if positions is not None:
            x = x + positions
        if self.layer_norm is not None:
            x = self.layer_norm(x.to(self.layer_norm.weight.dtype))
        x = self.dropout(x)
        padding_mask = tokens.eq(self.padding_idx)
        if not padding_mask.any():
            return x.transpose(0, 1), None
        # Zeros would do for the output, but LayerNorm is steepest at a constant: there it turns
        # the rounding of a reconstruction into noise. So padding carries a ramp.
        ramp = torch.linspace(-1, 1, x.size(-1), dtype=x.dtype, device=x.device)
        return torch.where(padding_mask.unsqueeze(-1), ramp, x).transpose(0, 1), padding_mask


def load_pretrained(tokens: nn.Embedding, path: str, dictionary: Dictionary, option: str) -> None:
    """Fill the rows of ``tokens`` from a file in word2vec's text format.

    Raises:
        InputError: it cannot be read, or is not as wide as ``option`` says.
    """
    try:
        vectors = utils.parse_embedding(path)
    except StopIteration:  # how fairseq's function ends that finds no first line
        raise InputError(f"cannot read pre-trained embeddings from {path}: it is empty") from None
    except (OSError, ValueError, IndexError) as error:
        raise InputError(f"cannot read pre-trained embeddings from {path}: {error}") from error
    widths = {vector.numel() for vector in vectors.values()}
    if widths != {tokens.embedding_dim}:
        raise InputError(
            f"{path} holds embeddings of width {sorted(widths)}, {option} is {tokens.embedding_dim}"
        )
    utils.load_embedding(vectors, dictionary, tokens)
