"""The derived model: one operation a node, as a genotype says (Eq. 2)."""

from __future__ import annotations

from fairseq.models import register_model
from fairseq.tasks import FairseqTask

from ..errors import InputError
from ..genotype import BUILTIN, Genotype
from .architectures import register_sizes, remember
from .base import ReversibleTranslationModel
from .checks import flag
from .config import DerivedConfig
from .stacks import Block


@register_model("dartsformer", dataclass=DerivedConfig)
class DARTSformerModel(ReversibleTranslationModel):
    """A network derived from a search; trained from the start by ordinary backpropagation."""

    NAME = "dartsformer"

    @classmethod
    def build_model(cls, cfg: DerivedConfig, task: FairseqTask) -> DARTSformerModel:
        """Build the network of ``--genotype``, and have its checkpoints carry the genotype's text.

        Raises:
            InputError: no or a bad genotype, or options that contradict it.
        """
        if cfg.genotype is None:
            raise InputError(
                "--genotype is missing: give a JSON file or a built-in name "
                f"({', '.join(sorted(BUILTIN))})"
            )
        genotype = Genotype.load(cfg.genotype)
        _check_agreement(cfg, genotype)
        remember(cfg, "genotype", genotype.to_json())
        return cls.assemble(
            cfg,
            task,
            _block(genotype.encoder),
            _block(genotype.decoder),
            genotype.pooling,
            search=False,
        )


def _block(layers: tuple[tuple[str, ...], ...]) -> Block:
    return [[(name,) for name in layer] for layer in layers]


def _check_agreement(cfg: DerivedConfig, genotype: Genotype) -> None:
    """An option explicitly given must not contradict the genotype."""
    decided = {
        "encoder_splits": [genotype.encoder_splits],
        "decoder_splits": [genotype.decoder_splits],
        "search_layers": [genotype.encoder_block, genotype.decoder_block],
        "pooling": [genotype.pooling],
    }
    for name, values in decided.items():
        given = getattr(cfg, name)
        for value in values:
            if given is not None and str(given) != str(value):
                raise InputError(
                    f"{flag(name)} is {given}, the genotype says {value}: leave the option out"
                )


register_sizes("dartsformer")
