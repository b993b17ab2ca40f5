"""What supernets and derived models share: assembly."""

from __future__ import annotations

from collections.abc import Mapping

from fairseq.models import FairseqEncoderDecoderModel
from fairseq.tasks import FairseqTask
from torch import nn

from .checkpoint_checks import CheckedModel
from .config import SizeConfig
from .embedding import FactorizedEmbedding, StackInput
from .encoder_decoder import TranslationDecoder, TranslationEncoder


class TranslationModel(CheckedModel, FairseqEncoderDecoderModel):
    """An encoder-decoder of two stacks upon factorised embeddings."""

    @classmethod
    def assemble(
        cls,
        cfg: SizeConfig,
        task: FairseqTask,
        stacks: Mapping[str, nn.Module],
        alphas: Mapping[str, nn.Parameter | None],
    ) -> TranslationModel:
        """Build the model around its stacks.

        Args:
            cfg: sizes and rates, filled in.
            task: has the two dictionaries.
            stacks: the layers of ``encoder`` and ``decoder``, called as
                ``stack(x, mixtures, context, **state)``.
            alphas: their architecture parameters, ``None`` where nothing is searched.

        Raises:
            InputError: pre-trained embeddings that cannot be read.
        """
        source, target = task.source_dictionary, task.target_dictionary
        encoder_embedding = FactorizedEmbedding(cfg, source, cfg.encoder_embed_path)
        decoder_embedding = encoder_embedding
        if not cfg.share_all_embeddings:
            decoder_embedding = FactorizedEmbedding(cfg, target, cfg.decoder_embed_path)
        encoder_input = StackInput(
            cfg, encoder_embedding, cfg.max_source_positions, cfg.encoder_learned_pos
        )
        decoder_input = StackInput(
            cfg, decoder_embedding, cfg.max_target_positions, cfg.decoder_learned_pos
        )
        return cls(
            TranslationEncoder(cfg, source, encoder_input, stacks["encoder"], alphas["encoder"]),
            TranslationDecoder(cfg, target, decoder_input, stacks["decoder"], alphas["decoder"]),
        )
