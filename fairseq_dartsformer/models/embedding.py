"""Factorised token embedding (Section 3.2) and the input of a stack."""

import math
from pathlib import Path

import torch
from fairseq.data import Dictionary
from fairseq.modules import PositionalEmbedding
from torch import Tensor, nn

from ..errors import InputError
from ..operations.base import Dropout, linear
from .config import SizeConfig


class FactorizedEmbedding(nn.Module):
    """V×e, then e×d: a token's row, scaled by the square root of e and projected to width d.

    Args:
        cfg: the model's options.
        dictionary: V symbols.
        path: file of pre-trained V×e vectors, see :func:`load_pretrained`.
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
    """Embedding, positions and dropout: from tokens to the input of a stack.

    Args:
        cfg: the model's options.
        embedding: shared by both stacks under ``--share-all-embeddings``.
        max_positions: longest sequence.
        learned_positions: learned positions instead of sinusoids.

    Attributes:
        padded: whether there is a padding mask; by default if there is padding.
    """

    padded: bool | None = None

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
        self.max_positions = max_positions
        if not cfg.no_token_positional_embeddings:
            self.positions = PositionalEmbedding(
                max_positions, cfg.hidden_dim, self.padding_idx, learned=learned_positions
            )
            self.max_positions = min(max_positions, self.positions.max_positions)
        self.layer_norm = nn.LayerNorm(cfg.hidden_dim) if cfg.layernorm_embedding else None
        self.dropout = Dropout(cfg.dropout, module_name=type(self).__name__)

    def forward(self, tokens: Tensor, incremental_state=None) -> tuple[Tensor, Tensor | None]:
        """Embed tokens `B × T`; with an incremental state only the last step.

        Returns:
            The stream `T × B × d`, float32 at least, because one in half precision loses the
            gradient within a few layers; and its padding mask, bool `B × T`, or ``None``.
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
            x = self.layer_norm(x.to(self.layer_norm.weight.dtype)).to(x.dtype)
        x = self.dropout(x)
        padding_mask = tokens.eq(self.padding_idx)
        if not (padding_mask.any() if self.padded is None else self.padded):
            return x.transpose(0, 1), None
        # A ramp, not zeros: at a constant, LayerNorm is steepest and turns the rounding of a
        # reconstruction into noise.
        ramp = torch.linspace(-1, 1, x.size(-1), dtype=x.dtype, device=x.device)
        return torch.where(padding_mask.unsqueeze(-1), ramp, x).transpose(0, 1), padding_mask


@torch.no_grad()
def load_pretrained(tokens: nn.Embedding, path: str, dictionary: Dictionary, option: str) -> None:
    """Fill the rows of ``tokens``, `V × e`, from vectors in the text format of word2vec or GloVe.

    A line is a word and e numbers, separated by spaces. The file may begin with a header line, the
    numbers of words and of dimensions. Blank lines, and words that the dictionary lacks, are
    skipped.

    Raises:
        InputError: the file cannot be read, or a line has not as many numbers as ``option`` says.
    """
    empty, number = True, 0
    try:
        with Path(path).open(encoding="utf-8-sig") as lines:
            for number, line in enumerate(lines, 1):
                word, *values = line.rstrip().split(" ")
                header = number == 1 and len(values) == 1 != tokens.embedding_dim
                if not line.strip() or header:
                    continue
                vector = torch.tensor([float(value) for value in values])
                if len(vector) != tokens.embedding_dim:
                    raise ValueError(f"{len(vector)} numbers, {option} is {tokens.embedding_dim}")
                empty = False
                if word in dictionary.indices:
                    tokens.weight[dictionary.indices[word]] = vector
    except (OSError, ValueError) as error:
        place = f"{path}, line {number}" if number else path
        raise InputError(f"cannot read pre-trained embeddings from {place}: {error}") from error
    if empty:
        raise InputError(f"cannot read pre-trained embeddings from {path}: it is empty")
