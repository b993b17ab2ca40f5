"""Models of an encoder and a decoder."""

from __future__ import annotations

from collections.abc import Mapping

from fairseq.models import FairseqEncoderDecoderModel
from fairseq.tasks import FairseqTask
from torch import nn

from .config import SizeConfig
from .embedding import FactorizedEmbedding, StackInput
from .encoder_decoder import Decoder, Encoder
from .hub import HubModel
from .stacked import StackedModel


class TranslationModel(HubModel, StackedModel, FairseqEncoderDecoderModel):
    """An encoder-decoder."""

    @classmethod
    def assemble(
        cls,
        cfg: SizeConfig,
        task: FairseqTask,
        stacks: Mapping[str, nn.Module],
        alphas: Mapping[str, nn.Parameter],
    ) -> TranslationModel:
        """As the base class describes it; the two embeddings may be one."""
        source, target = task.source_dictionary, task.target_dictionary
        embedding = FactorizedEmbedding(cfg, source, cfg.encoder_embed_path)
        encoder_input = StackInput(
            cfg, embedding, cfg.max_source_positions, cfg.encoder_learned_pos
        )
        if not cfg.share_all_embeddings:
            embedding = FactorizedEmbedding(cfg, target, cfg.decoder_embed_path)
        decoder_input = StackInput(
            cfg, embedding, cfg.max_target_positions, cfg.decoder_learned_pos
        )
        return cls(
            Encoder(cfg, source, encoder_input, stacks["encoder"], alphas.get("encoder")),
            Decoder(cfg, target, decoder_input, stacks["decoder"], alphas.get("decoder")),
        )
