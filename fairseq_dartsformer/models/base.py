"""What the supernet and the derived model share: assembly, checks, loading."""

from __future__ import annotations

from typing import ClassVar

from fairseq.models import FairseqEncoderDecoderModel
from fairseq.tasks import FairseqTask
from omegaconf import DictConfig
from torch import Tensor

from ..errors import InputError
from ..search_space import new_alpha
from .architectures import fill_sizes
from .checks import check_sizes
from .config import SizeConfig
from .embedding import FactorizedEmbedding, StackInput
from .stacks import Block, DARTSformerDecoder, DARTSformerEncoder, build_stack


class ReversibleTranslationModel(FairseqEncoderDecoderModel):
    """An encoder-decoder of two reversible stacks."""

    NAME: ClassVar[str]

    @classmethod
    def assemble(
        cls,
        cfg: SizeConfig,
        task: FairseqTask,
        encoder_block: Block,
        decoder_block: Block,
        pooling: str,
        search: bool,
    ) -> ReversibleTranslationModel:
        """Build the model that the blocks describe.

        Args:
            cfg: sizes and rates; sizes that are ``None`` are the architecture's.
            task: has the two dictionaries.
            encoder_block, decoder_block: the operations of each split of each layer.
            pooling: ``"max"`` or ``"avg"``.
            search: whether the nodes are search nodes, with an alpha; all but the decoder's last.

        Raises:
            InputError: sizes that do not fit together.
        """
        fill_sizes(cfg, cls.NAME)
        source, target = task.source_dictionary, task.target_dictionary
        check_sizes(cfg, encoder_block, decoder_block, source, target)

        encoder_embedding = FactorizedEmbedding(cfg, source, cfg.encoder_embed_path)
        decoder_embedding = encoder_embedding
        if not cfg.share_all_embeddings:
            decoder_embedding = FactorizedEmbedding(cfg, target, cfg.decoder_embed_path)
        encoder_alpha = decoder_alpha = None
        if search:
            encoder_alpha = new_alpha(
                len(encoder_block), len(encoder_block[0]), len(encoder_block[0][0])
            )
            decoder_alpha = new_alpha(
                len(decoder_block), len(decoder_block[0]) - 1, len(decoder_block[0][0])
            )
        return cls(
            DARTSformerEncoder(
                cfg,
                source,
                StackInput(
                    cfg, encoder_embedding, cfg.max_source_positions, cfg.encoder_learned_pos
                ),
                build_stack(cfg, encoder_block, cfg.encoder_layers, pooling, causal=False),
                encoder_alpha,
            ),
            DARTSformerDecoder(
                cfg,
                target,
                StackInput(
                    cfg, decoder_embedding, cfg.max_target_positions, cfg.decoder_learned_pos
                ),
                build_stack(cfg, decoder_block, cfg.decoder_layers, pooling, causal=True),
                decoder_alpha,
            ),
        )

    def prepare_for_inference_(self, cfg: DictConfig) -> None:
        """Prepare for generation, as fairseq does.

        Raises:
            InputError: alignments are asked for.
        """
        if cfg.generation.print_alignment:
            raise InputError(
                f"--print-alignment is {cfg.generation.print_alignment}, it must be left out: "
                f"{self.NAME} computes no attention weights to align by"
            )
        super().prepare_for_inference_(cfg)

    def load_state_dict(self, state_dict: dict[str, Tensor], strict: bool = True, **kwargs):
        """Load as fairseq does, and say in one line what does not fit.

        Raises:
            InputError: the checkpoint is another model's.
        """
        if strict:
            self._check_state(state_dict)
        return super().load_state_dict(state_dict, strict, **kwargs)

    def _check_state(self, state_dict: dict[str, Tensor]) -> None:
        own = self.state_dict()
        differing = sorted(
            own.keys() ^ state_dict.keys()
            | {k for k in own.keys() & state_dict.keys() if own[k].shape != state_dict[k].shape}
        )
        if not differing:
            return
        searched = "encoder.alpha" in state_dict
        if searched == ("encoder.alpha" in own):
            kind = f"a different model: {len(differing)} of its tensors do not match"
            kind += f" (the first is {differing[0]})"
        elif searched:
            kind = (
                "a supernet: derive a genotype from it with dartsformer-derive and train that "
                "from the start"
            )
        else:
            kind = "no supernet: a search starts from a search's checkpoint or from none"
        raise InputError(
            f"the checkpoint (--restore-file, --finetune-from-model or --path) holds {kind}"
        )
