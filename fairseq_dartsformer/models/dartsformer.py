"""DARTSformer: its supernet, `dartsformer_search`, and the model derived from it, `dartsformer`."""

from __future__ import annotations

import math
from typing import Any

from fairseq.models import register_model
from fairseq.tasks import FairseqTask

from ..errors import InputError
from ..reversible import ReversibleLayer, ReversibleStack
from ..search_space.families import DARTSFORMER as FAMILY
from .architectures import register_sizes
from .blocks import build_layers, derived_blocks, searched_blocks
from .config import DerivedConfig, ReversibleConfig, SearchConfig
from .option_checks import Block, check_at_least, check_block
from .reconstruction_check import MonitoredStack, warn_of_growth
from .translation import TranslationModel
from .warm_start import WarmStarted


class ReversibleTranslationModel(TranslationModel):
    """A model of two reversible stacks."""

    @classmethod
    def build(cls, cfg: ReversibleConfig, *arguments: Any, **options: Any) -> TranslationModel:
        """As the base class describes it; warns where the gradients may be wrong."""
        model = super().build(cfg, *arguments, **options)
        if str(cfg.operation_norm) == "pre" and str(cfg.backprop) == "reconstruct":
            warn_of_growth(max(cfg.encoder_layers, cfg.decoder_layers))
        return model

    @classmethod
    def build_stack(
        cls, cfg: ReversibleConfig, stack: str, block: Block, pooling: str, searched: bool
    ) -> ReversibleStack:
        """As the base class describes it."""
        every, backprop = cfg.check_reconstruction, str(cfg.backprop)
        check_at_least(cfg, "check_reconstruction", 0, None)
        if every and backprop == "store":
            raise InputError(
                f"--check-reconstruction is {every}, but nothing is reconstructed with "
                "--backprop store"
            )
        splits = len(block[0])
        if cfg.hidden_dim % splits:
            both = (getattr(cfg, name, None) or 1 for name in ("encoder_splits", "decoder_splits"))
            raise InputError(
                f"--hidden-dim is {cfg.hidden_dim}, which the {stack}'s {splits} splits do not "
                f"divide: take a multiple of {math.lcm(splits, *both)}"
            )
        check_block(cfg, block, stack, splits)
        layers = build_layers(cfg, block, stack, cfg.hidden_dim // splits)
        # A derived model that stores activations has nothing to recompute, and needs no seeds.
        layers = (ReversibleLayer(nodes, pooling) for nodes in layers)
        return MonitoredStack(stack, every, layers, backprop, searched)


@register_model(FAMILY.supernet, dataclass=SearchConfig)
class DARTSformerSearchModel(ReversibleTranslationModel):
    """The supernet: every searched node mixes all its candidates (Section 2.4).

    ``encoder.alpha`` (`s × n × candidates`) and ``decoder.alpha`` (`s × (n - 1) × candidates`) are
    the architecture parameters; all other parameters are weights.
    """

    NAME = FAMILY.supernet

    @classmethod
    def build_model(cls, cfg: SearchConfig, task: FairseqTask) -> DARTSformerSearchModel:
        """Build the supernet; raises what :meth:`TranslationModel.build` raises."""
        if cfg.decoder_splits is None:
            cfg.decoder_splits = cfg.encoder_splits + 1
        check_at_least(cfg, "encoder_splits", 2)
        check_at_least(cfg, "decoder_splits", 2)
        nodes = {"encoder": cfg.encoder_splits, "decoder": cfg.decoder_splits - 1}
        return cls.build(cfg, task, *searched_blocks(cfg, FAMILY, nodes), str(cfg.pooling))


@register_model(FAMILY.name, dataclass=DerivedConfig)
class DARTSformerModel(WarmStarted, ReversibleTranslationModel):
    """A network derived from a search (Eq. 2), by default with ordinary backpropagation."""

    NAME = FAMILY.name

    @classmethod
    def build_model(cls, cfg: DerivedConfig, task: FairseqTask) -> DARTSformerModel:
        """Build the network of ``--genotype``, with which its other options must agree."""
        blocks, pooling = derived_blocks(cfg, FAMILY)
        return cls.build(cfg, task, blocks, pooling=pooling)


register_sizes(FAMILY.supernet)
register_sizes(FAMILY.name)
