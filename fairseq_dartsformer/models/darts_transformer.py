"""DARTS on a Transformer (Table 5, Figure 1), with and without an encoder: the supernets, and the
models derived from them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from fairseq.models import register_model
from torch import Tensor, nn

from ..reversible import Stack
from ..reversible.coupling import Mixture
from ..search_space.families import DARTS_TRANSFORMER, DARTS_TRANSFORMER_LM
from ..search_space.mixed_op import MixedOp
from .architectures import register_sizes
from .blocks import build_layers
from .config import (
    SequentialDerivedConfig,
    SequentialLanguageModelDerivedConfig,
    SequentialLanguageModelSearchConfig,
    SequentialSearchConfig,
    SizeConfig,
)
from .derived import DerivedModel, SearchModel
from .language_model import LanguageModel
from .option_checks import Block, check_block
from .translation import TranslationModel


class SequentialLayer(nn.Module):
    """A layer in which each node reads the output of the node before it (Section 2.1).

    The residual connections are part of the operations.

    Args:
        nodes: the nodes in order.
        fixed: index of the node that is not searched, if any.
    """

    def __init__(self, nodes: Iterable[MixedOp], fixed: int | None = None):
        super().__init__()
        self.nodes = nn.ModuleList(nodes)
        self.fixed = fixed

    def forward(self, x: Tensor, mixture: Mixture, context: NamedTuple, **state: Any) -> Tensor:
        """Run the nodes on `T × B × d`.

        Args:
            x: `T × B × d`.
            mixture: what runs in the m searched nodes, in order: mixing weights `m × candidates`,
                or m indices; or ``None``.
            context, state: passed to every operation.
        """
        searched = iter([None] * len(self.nodes) if mixture is None else mixture)
        for k, node in enumerate(self.nodes):
            x = node(x, None if k == self.fixed else next(searched), context, **state)
        return x


class SequentialStacks:
    """Mixin of models of stacks of sequential layers."""

    @classmethod
    def build_stack(
        cls, cfg: SizeConfig, stack: str, block: Block, pooling: None, searched: bool
    ) -> Stack:
        """As the base class describes it."""
        check_block(cfg, block, stack)
        fixed = cls.FAMILY.fixed if cls.FAMILY.has_fixed(stack) else None
        layers = build_layers(cfg, block, stack, cfg.hidden_dim)
        return Stack(SequentialLayer(nodes, fixed) for nodes in layers)


@register_model(DARTS_TRANSFORMER.supernet, dataclass=SequentialSearchConfig)
class DARTSTransformerSearchModel(SearchModel, SequentialStacks, TranslationModel):
    """Vanilla DARTS: two search nodes in every layer of a Transformer, all activations stored.

    An encoder layer is `node -> node`, a decoder layer `node -> Cross Attention -> node`.
    ``encoder.alpha`` and ``decoder.alpha`` are `s × 2 × candidates`.
    """

    FAMILY, NAME = DARTS_TRANSFORMER, DARTS_TRANSFORMER.supernet


@register_model(DARTS_TRANSFORMER.name, dataclass=SequentialDerivedConfig)
class DARTSTransformerModel(DerivedModel, SequentialStacks, TranslationModel):
    """A network derived from a search of DARTS on a Transformer."""

    FAMILY, NAME = DARTS_TRANSFORMER, DARTS_TRANSFORMER.name


@register_model(DARTS_TRANSFORMER_LM.supernet, dataclass=SequentialLanguageModelSearchConfig)
class DARTSTransformerLMSearchModel(SearchModel, SequentialStacks, LanguageModel):
    """Vanilla DARTS without an encoder: a layer is `node -> node`, both causal and searched."""

    FAMILY, NAME = DARTS_TRANSFORMER_LM, DARTS_TRANSFORMER_LM.supernet


@register_model(DARTS_TRANSFORMER_LM.name, dataclass=SequentialLanguageModelDerivedConfig)
class DARTSTransformerLMModel(DerivedModel, SequentialStacks, LanguageModel):
    """A language model derived from a search of DARTS on a Transformer."""

    FAMILY, NAME = DARTS_TRANSFORMER_LM, DARTS_TRANSFORMER_LM.name


for family in (DARTS_TRANSFORMER, DARTS_TRANSFORMER_LM):
    register_sizes(family.supernet)
    register_sizes(family.name)
