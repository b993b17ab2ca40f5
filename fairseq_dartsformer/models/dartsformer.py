"""DARTSformer: its supernet, `dartsformer_search`, and the model derived from it, `dartsformer`."""

from __future__ import annotations

from collections.abc import Mapping

from fairseq.models import register_model
from fairseq.tasks import FairseqTask
from torch import nn

from ..errors import InputError
from ..reversible import ReversibleLayer
from ..search_space.families import DARTSFORMER as FAMILY
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
from .config import DerivedConfig, ReversibleConfig, SearchConfig
from .option_checks import check_at_least, check_block, check_sizes
from .reconstruction_check import MonitoredStack
from .translation import TranslationModel


class ReversibleTranslationModel(TranslationModel):
    """A model of two reversible stacks."""

    @classmethod
    def build(
        cls,
        cfg: ReversibleConfig,
        task: FairseqTask,
        blocks: Mapping[str, Block],
        alphas: Mapping[str, nn.Parameter | None],
        pooling: str,
    ) -> ReversibleTranslationModel:
        """Build the model of the given blocks.

        Raises:
            InputError: sizes that do not fit together.
        """
        fill_sizes(cfg, cls.NAME)
        check_sizes(cfg, task.source_dictionary, task.target_dictionary)
        check_at_least(cfg, "check_reconstruction", 0, None)
        if cfg.check_reconstruction and str(cfg.backprop) == "store":
            raise InputError(
                f"--check-reconstruction is {cfg.check_reconstruction}, but nothing is "
                "reconstructed with --backprop store"
            )
        stacks = {}
        for stack, block in blocks.items():
            splits = len(block[0])
            if cfg.hidden_dim % splits:
                raise InputError(
                    f"--hidden-dim is {cfg.hidden_dim}, which the {stack}'s {splits} splits do not "
                    f"divide: take a multiple of {splits}"
                )
            check_block(cfg, block, stack, splits)
            layers = build_layers(cfg, block, stack, cfg.hidden_dim // splits)
            stacks[stack] = MonitoredStack(
                (ReversibleLayer(nodes, pooling) for nodes in layers),
                str(cfg.backprop),
                stack,
                cfg.check_reconstruction,
                seeded=alphas[stack] is not None,
            )
        return cls.assemble(cfg, task, stacks, alphas)


@register_model(FAMILY.supernet, dataclass=SearchConfig)
class DARTSformerSearchModel(ReversibleTranslationModel):
    """The supernet: every node of every searched layer mixes all its candidates (Section 2.4).

    ``encoder.alpha`` (`s × n × candidates`) and ``decoder.alpha`` (`s × (n - 1) × candidates`) are
    the architecture parameters; every other parameter is a weight.
    """

    NAME = FAMILY.supernet

    @classmethod
    def build_model(cls, cfg: SearchConfig, task: FairseqTask) -> DARTSformerSearchModel:
        """Build from options.

        Raises:
            InputError: options that do not fit together.
        """
        if cfg.decoder_splits is None:
            cfg.decoder_splits = cfg.encoder_splits + 1
        check_at_least(cfg, "encoder_splits", 2)
        check_at_least(cfg, "decoder_splits", 2)
        searched = {"encoder": cfg.encoder_splits, "decoder": cfg.decoder_splits - 1}
        blocks = {
            stack: searched_block(cfg, FAMILY, stack, nodes) for stack, nodes in searched.items()
        }
        alphas = {stack: alpha_of(block, FAMILY, stack) for stack, block in blocks.items()}
        return cls.build(cfg, task, blocks, alphas, str(cfg.pooling))


@register_model(FAMILY.name, dataclass=DerivedConfig)
class DARTSformerModel(ReversibleTranslationModel):
    """A network derived from a search (Eq. 2); trained from the start, by ordinary backpropagation
    if not told otherwise."""

    NAME = FAMILY.name

    @classmethod
    def build_model(cls, cfg: DerivedConfig, task: FairseqTask) -> DARTSformerModel:
        """Build the network of ``--genotype``, and have its checkpoints carry the genotype's text.

        Raises:
            InputError: no or a bad genotype, or options that contradict it.
        """
        genotype = genotype_of(cfg, FAMILY)
        check_agreement(
            cfg,
            {
                "encoder_splits": [genotype.encoder_splits],
                "decoder_splits": [genotype.decoder_splits],
                "search_layers": [genotype.encoder_block, genotype.decoder_block],
                "pooling": [genotype.pooling],
            },
        )
        blocks = {
            "encoder": derived_block(genotype.encoder),
            "decoder": derived_block(genotype.decoder),
        }
        return cls.build(cfg, task, blocks, dict.fromkeys(blocks), genotype.pooling)


register_sizes(FAMILY.supernet)
register_sizes(FAMILY.name)
