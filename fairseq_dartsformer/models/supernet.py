"""The supernet: every node of every searched layer mixes all its candidates (Section 2.4)."""

from __future__ import annotations

from fairseq.models import register_model
from fairseq.tasks import FairseqTask

from ..operations import DECODER_OPERATIONS, ENCODER_OPERATIONS
from .architectures import register_sizes
from .base import ReversibleTranslationModel
from .checks import check_at_least, parse_operations
from .config import SearchConfig


@register_model("dartsformer_search", dataclass=SearchConfig)
class DARTSformerSearchModel(ReversibleTranslationModel):
    """DARTSformer's supernet.

    ``encoder.alpha`` (`s × n × candidates`) and ``decoder.alpha`` (`s × (n - 1) × candidates`) are
    the architecture parameters; every other parameter is a weight.
    """

    NAME = "dartsformer_search"

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
        check_at_least(cfg, "search_layers", 1)
        candidates = parse_operations(
            cfg.encoder_operations, "encoder_operations", ENCODER_OPERATIONS
        )
        encoder_layer = [candidates] * cfg.encoder_splits
        candidates = parse_operations(
            cfg.decoder_operations, "decoder_operations", DECODER_OPERATIONS
        )
        decoder_layer = [*[candidates] * (cfg.decoder_splits - 1), ("cross_attention",)]
        return cls.assemble(
            cfg,
            task,
            [encoder_layer] * cfg.search_layers,
            [decoder_layer] * cfg.search_layers,
            str(cfg.pooling),
            search=True,
        )


register_sizes("dartsformer_search")
