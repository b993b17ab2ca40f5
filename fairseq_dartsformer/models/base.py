"""What all models share: assembly, loading."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from fairseq.models import FairseqEncoderDecoderModel
from fairseq.tasks import FairseqTask
from omegaconf import DictConfig
from torch import Tensor, nn

from ..errors import InputError
from .config import SizeConfig
from .embedding import FactorizedEmbedding, StackInput
from .sides import TranslationDecoder, TranslationEncoder


class TranslationModel(FairseqEncoderDecoderModel):
    """An encoder-decoder of two stacks upon factorised embeddings."""

    NAME: ClassVar[str]

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
