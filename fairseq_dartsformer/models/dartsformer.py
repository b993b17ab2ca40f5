"""DARTSformer: its supernet, `dartsformer_search`, and the model derived from it, `dartsformer`;
the same without an encoder, `dartsformer_lm_search` and `dartsformer_lm`."""

from __future__ import annotations

import math

from fairseq.models import register_model

from ..errors import InputError
from ..reversible import ReversibleLayer, ReversibleStack
from ..search_space.families import DARTSFORMER, DARTSFORMER_LM
from .architectures import register_sizes
from .blocks import build_layers
from .config import (
    DerivedConfig,
    LanguageModelDerivedConfig,
    LanguageModelSearchConfig,
    ReversibleConfig,
    SearchConfig,
)
from .derived import DerivedModel, SearchModel
from .language_model import LanguageModel
from .option_checks import Block, check_at_least, check_block
from .reconstruction_check import MonitoredStack, warn_of_growth
from .translation import TranslationModel


class ReversibleStacks:
    """Mixin of models whose stacks are reversible."""

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
        if str(cfg.operation_norm) == "pre" and backprop == "reconstruct":
            warn_of_growth(getattr(cfg, f"{stack}_layers"))
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


@register_model(DARTSFORMER.supernet, dataclass=SearchConfig)
class DARTSformerSearchModel(SearchModel, ReversibleStacks, TranslationModel):
    """The supernet: every searched node mixes all its candidates (Section 2.4).

    ``encoder.alpha`` (`s × n × candidates`) and ``decoder.alpha`` (`s × (n - 1) × candidates`) are
    the architecture parameters; all other parameters are weights.
    """

    FAMILY, NAME = DARTSFORMER, DARTSFORMER.supernet


@register_model(DARTSFORMER.name, dataclass=DerivedConfig)
class DARTSformerModel(DerivedModel, ReversibleStacks, TranslationModel):
    """A network derived from a search (Eq. 2), by default with ordinary backpropagation."""

    FAMILY, NAME = DARTSFORMER, DARTSFORMER.name


@register_model(DARTSFORMER_LM.supernet, dataclass=LanguageModelSearchConfig)
class DARTSformerLMSearchModel(SearchModel, ReversibleStacks, LanguageModel):
    """The supernet without an encoder: all n splits are searched, and no candidate is Cross
    Attention. ``decoder.alpha`` is `s × n × candidates`."""

    FAMILY, NAME = DARTSFORMER_LM, DARTSFORMER_LM.supernet


@register_model(DARTSFORMER_LM.name, dataclass=LanguageModelDerivedConfig)
class DARTSformerLMModel(DerivedModel, ReversibleStacks, LanguageModel):
    """A language model derived from a search."""

    FAMILY, NAME = DARTSFORMER_LM, DARTSFORMER_LM.name


for family in (DARTSFORMER, DARTSFORMER_LM):
    register_sizes(family.supernet)
    register_sizes(family.name)
