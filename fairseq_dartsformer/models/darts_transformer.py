"""DARTS on a Transformer (Table 5, Figure 1): its supernet, and the model derived from it."""

from __future__ import annotations

from collections.abc import Mapping

from fairseq.models import register_model
from fairseq.tasks import FairseqTask
from torch import nn

from ..search_space.families import DARTS_TRANSFORMER as FAMILY
from .architectures import fill_sizes, register_sizes
from .blocks import (
    Block,
    alpha_of,
    build_layers,
    check_agreement,
    derived_block,
    genotype_of,
    searched_block,
)
from .config import CandidatesConfig, GenotypeConfig, SizeConfig
from .option_checks import check_block, check_sizes
from .sequential import SequentialLayer, SequentialStack
from .translation import TranslationModel


class SequentialTranslationModel(TranslationModel):
    """A model of two stacks whose layers are nodes one after the other."""

    @classmethod
    def build(
        cls,
        cfg: SizeConfig,
        task: FairseqTask,
        blocks: Mapping[str, Block],
        alphas: Mapping[str, nn.Parameter | None],
    ) -> SequentialTranslationModel:
        """Build the model of the given blocks.

        Raises:
            InputError: sizes that do not fit together.
        """
        fill_sizes(cfg, cls.NAME)
        check_sizes(cfg, task.source_dictionary, task.target_dictionary)
        fixed = {"encoder": None, "decoder": FAMILY.fixed}
        stacks = {}
        for stack, block in blocks.items():
            check_block(cfg, block, stack)
            layers = build_layers(cfg, block, stack, cfg.hidden_dim)
            stacks[stack] = SequentialStack(
                SequentialLayer(nodes, fixed[stack]) for nodes in layers
            )
        return cls.assemble(cfg, task, stacks, alphas)


@register_model(FAMILY.supernet, dataclass=CandidatesConfig)
class DARTSTransformerSearchModel(SequentialTranslationModel):
    """Vanilla DARTS: two search nodes in every layer of a Transformer, all activations stored.

    An encoder layer is `node -> node`, a decoder layer `node -> Cross Attention -> node`.
    ``encoder.alpha`` and ``decoder.alpha`` are `s × 2 × candidates`.
    """

    NAME = FAMILY.supernet

    @classmethod
    def build_model(cls, cfg: CandidatesConfig, task: FairseqTask) -> DARTSTransformerSearchModel:
        """Build from options.

        Raises:
            InputError: options that do not fit together.
        """
        blocks = {stack: searched_block(cfg, FAMILY, stack, 2) for stack in FAMILY.nodes}
        alphas = {stack: alpha_of(block, FAMILY, stack) for stack, block in blocks.items()}
        return cls.build(cfg, task, blocks, alphas)


@register_model(FAMILY.name, dataclass=GenotypeConfig)
class DARTSTransformerModel(SequentialTranslationModel):
    """A network derived from a search of DARTS on a Transformer."""

    NAME = FAMILY.name

    @classmethod
    def build_model(cls, cfg: GenotypeConfig, task: FairseqTask) -> DARTSTransformerModel:
        """Build the network of ``--genotype``, and have its checkpoints carry the genotype's text.

        Raises:
            InputError: no or a bad genotype, or options that contradict it.
        """
        genotype = genotype_of(cfg, FAMILY)
        check_agreement(cfg, {"search_layers": [genotype.encoder_block, genotype.decoder_block]})
        blocks = {
            "encoder": derived_block(genotype.encoder),
            "decoder": derived_block(genotype.decoder),
        }
        return cls.build(cfg, task, blocks, dict.fromkeys(blocks))


register_sizes(FAMILY.supernet)
register_sizes(FAMILY.name)
