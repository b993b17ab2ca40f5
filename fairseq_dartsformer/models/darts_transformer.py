"""DARTS on a Transformer (Table 5, Figure 1): its supernet, and the model derived from it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from fairseq.models import register_model
from fairseq.tasks import FairseqTask
from torch import Tensor, nn

from ..reversible import Stack
from ..reversible.coupling import Mixture
from ..search_space.families import DARTS_TRANSFORMER as FAMILY
from ..search_space.mixed_op import MixedOp
from .architectures import register_sizes
from .blocks import build_layers, derived_blocks, searched_blocks
from .config import CandidatesConfig, GenotypeConfig, SizeConfig
from .option_checks import Block, check_block
from .translation import TranslationModel
from .warm_start import WarmStarted


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


class SequentialTranslationModel(TranslationModel):
    """A model of two stacks of sequential layers."""

    @classmethod
    def build_stack(
        cls, cfg: SizeConfig, stack: str, block: Block, pooling: None, searched: bool
    ) -> Stack:
        """As the base class describes it."""
        check_block(cfg, block, stack)
        fixed = FAMILY.fixed if stack == "decoder" else None
        layers = build_layers(cfg, block, stack, cfg.hidden_dim)
        return Stack(SequentialLayer(nodes, fixed) for nodes in layers)


@register_model(FAMILY.supernet, dataclass=CandidatesConfig)
class DARTSTransformerSearchModel(SequentialTranslationModel):
    """Vanilla DARTS: two search nodes in every layer of a Transformer, all activations stored.

    An encoder layer is `node -> node`, a decoder layer `node -> Cross Attention -> node`.
    ``encoder.alpha`` and ``decoder.alpha`` are `s × 2 × candidates`.
    """

    NAME = FAMILY.supernet

    @classmethod
    def build_model(cls, cfg: CandidatesConfig, task: FairseqTask) -> DARTSTransformerSearchModel:
        """Build the supernet; raises what :meth:`TranslationModel.build` raises."""
        return cls.build(cfg, task, *searched_blocks(cfg, FAMILY, {"encoder": 2, "decoder": 2}))


@register_model(FAMILY.name, dataclass=GenotypeConfig)
class DARTSTransformerModel(WarmStarted, SequentialTranslationModel):
    """A network derived from a search of DARTS on a Transformer."""

    NAME = FAMILY.name

    @classmethod
    def build_model(cls, cfg: GenotypeConfig, task: FairseqTask) -> DARTSTransformerModel:
        """Build the network of ``--genotype``, with which its other options must agree."""
        blocks, _ = derived_blocks(cfg, FAMILY)
        return cls.build(cfg, task, blocks)


register_sizes(FAMILY.supernet)
register_sizes(FAMILY.name)
