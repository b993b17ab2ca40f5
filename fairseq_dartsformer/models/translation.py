"""The base class of supernets and derived models."""

from __future__ import annotations

from collections.abc import Mapping

from fairseq.models import FairseqEncoderDecoderModel
from fairseq.tasks import FairseqTask
from torch import nn

from .architectures import fill_sizes
from .checkpoint_checks import CheckedModel
from .config import SizeConfig
from .embedding import FactorizedEmbedding, StackInput
from .encoder_decoder import TranslationDecoder, TranslationEncoder
from .hub import HubModel
from .option_checks import Block, check_sizes


class TranslationModel(CheckedModel, HubModel, FairseqEncoderDecoderModel):
    """An encoder-decoder of two stacks on factorised embeddings."""

    @classmethod
    def build_stack(
        cls, cfg: SizeConfig, stack: str, block: Block, pooling: str | None, searched: bool
    ) -> nn.Module:
        """Build the layers of ``"encoder"`` or ``"decoder"``, see :class:`..reversible.Stack`."""
        raise NotImplementedError

    @classmethod
    def build(
        cls,
        cfg: SizeConfig,
        task: FairseqTask,
        blocks: Mapping[str, Block],
        alphas: Mapping[str, nn.Parameter] | None = None,
        pooling: str | None = None,
    ) -> TranslationModel:
        """Build the model.

        Args:
            cfg: the model's options; missing sizes are filled in.
            task: has the two dictionaries.
            blocks: for each stack the block that it repeats.
            alphas: the architecture parameters of each stack of a supernet.
            pooling: of the inputs of a node.

        Raises:
            InputError: options that do not fit together, or unreadable embeddings.
        """
        fill_sizes(cfg, cls.NAME)
        check_sizes(cfg, task)
        alphas = alphas or {}
        stacks = {
            stack: cls.build_stack(cfg, stack, block, pooling, stack in alphas)
            for stack, block in blocks.items()
        }
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
            TranslationEncoder(
                cfg, source, encoder_input, stacks["encoder"], alphas.get("encoder")
            ),
            TranslationDecoder(
                cfg, target, decoder_input, stacks["decoder"], alphas.get("decoder")
            ),
        )
