"""Models of a decoder alone."""

from __future__ import annotations

from collections.abc import Mapping

from fairseq.hub_utils import GeneratorHubInterface
from fairseq.models import FairseqLanguageModel
from fairseq.tasks import FairseqTask
from torch import nn

from ..errors import InputError
from .config import LanguageModelConfig
from .embedding import FactorizedEmbedding, StackInput
from .encoder_decoder import Decoder
from .hub import HubModel
from .option_checks import check_at_least
from .stacked import StackedModel


class LanguageModel(HubModel, StackedModel, FairseqLanguageModel):
    """A decoder without an encoder."""

    HUB = GeneratorHubInterface

    @classmethod
    def build(
        cls, cfg: LanguageModelConfig, task: FairseqTask, *blocks_and_more, **more
    ) -> LanguageModel:
        """As the base class describes it; an input is by default as long as the task's windows.

        Raises:
            InputError: the task predicts more than the next token, windows are empty, or as the
                base class.
        """
        for target in {*getattr(task, "targets", ())} - {"future"}:
            raise InputError(
                f"--{target}-target is given, but the model predicts the next token alone"
            )
        if cfg.tokens_per_sample is not None:
            check_at_least(cfg, "tokens_per_sample", 1, most=None)
        if cfg.max_target_positions is None and cfg.tokens_per_sample is not None:
            cfg.max_target_positions = cfg.tokens_per_sample + bool(cfg.add_bos_token)
        return super().build(cfg, task, *blocks_and_more, **more)

    @classmethod
    def assemble(
        cls,
        cfg: LanguageModelConfig,
        task: FairseqTask,
        stacks: Mapping[str, nn.Module],
        alphas: Mapping[str, nn.Parameter],
    ) -> LanguageModel:
        """As the base class describes it.

        Raises:
            InputError: input and output share an embedding but not a dictionary.
        """
        words, predicted = task.source_dictionary, task.target_dictionary
        if cfg.share_decoder_input_output_embed and len(predicted) != len(words):
            raise InputError(
                f"--output-dictionary-size is {len(predicted)}, but --share-decoder-input-output-"
                f"embed needs all {len(words)} symbols: leave out one of them"
            )
        embedding = FactorizedEmbedding(cfg, words)
        positions = cfg.max_target_positions, cfg.decoder_learned_pos
        decoder_input = StackInput(cfg, embedding, *positions)
        return cls(Decoder(cfg, predicted, decoder_input, stacks["decoder"], alphas.get("decoder")))
