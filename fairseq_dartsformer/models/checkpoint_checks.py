"""A model of this plugin refuses alignments, and checkpoints of other networks."""

from argparse import Namespace
from collections.abc import Mapping
from typing import Any, ClassVar

from fairseq.models import ARCH_MODEL_NAME_REGISTRY
from omegaconf import DictConfig
from torch import Tensor

from ..errors import InputError, flag
from ..search_space.families import Family
from ..search_space.genotype import Genotype
from .option_checks import SIZES, parse_operations

# Options that decide what a network computes. Several leave all tensors' shapes alone; the others
# make a clearer message than the shapes.
DEFINING = (
    *SIZES,
    *("search_layers", "encoder_splits", "decoder_splits"),
    *("encoder_operations", "decoder_operations", "pooling", "genotype"),
    "operation_norm",
    *("share_all_embeddings", "share_decoder_input_output_embed", "layernorm_embedding"),
    *("encoder_learned_pos", "decoder_learned_pos"),
    *("no_scale_embedding", "no_token_positional_embeddings"),
)
Options = Mapping[str, Any] | Namespace  # a group of a configuration
WORDS = ("tokens.weight", "output_projection.weight")  # parameters that have a row a word


class CheckedModel:
    """Mixin in front of fairseq's class that reports what a model cannot do or load."""

    NAME: ClassVar[str]
    FAMILY: ClassVar[Family | None] = None  # of a supernet or a derived model

    def prepare_for_inference_(self, cfg: DictConfig) -> None:
        """Prepare for generation, as fairseq does; raise an :class:`InputError` if an option needs
        an alignment."""
        for name in ("print_alignment", "replace_unk"):
            value = cfg.generation[name]
            if value is not None:
                raise InputError(
                    f"{flag(name)} is {value}, it must be left out: {self.NAME} computes no "
                    "attention weights to align by"
                )
        super().prepare_for_inference_(cfg)

    @classmethod
    def check_options(cls, own: Mapping[str, Any], trained: Options, path: str) -> None:
        """Check that a checkpoint's weights are those of the same network.

        Tensors tell when they are another model's; see :meth:`load_state_dict`.

        Args:
            own: the model's options.
            trained: the model's options in the checkpoint ``path``.

        Raises:
            InputError: an option in :data:`DEFINING` differs.
        """
        trained = options_of(trained)
        model = trained.get("_name")
        if ARCH_MODEL_NAME_REGISTRY.get(model, model) != cls.NAME:
            return
        for name in DEFINING:
            now, then = (_defining(name, options, cls.FAMILY) for options in (own, trained))
            if None not in (now, then) and now != then:
                raise InputError(
                    f"{flag(name)} is {now}, but {then} in the training that {path} is of: use "
                    "that, or train from the start in another --save-dir and without "
                    "--finetune-from-model"
                )

    def load_state_dict(self, state_dict: dict[str, Tensor], strict: bool = True, **kwargs):
        """Load as fairseq does; raise an :class:`InputError` if the tensors are those of another
        model."""
        if strict:
            self._check_state(state_dict)
        return super().load_state_dict(state_dict, strict, **kwargs)

    def _check_state(self, state_dict: dict[str, Tensor]) -> None:
        # Masks of pruned candidates are only in checkpoints in which something was pruned.
        own = {n: t.shape for n, t in self.state_dict().items() if not n.endswith(".remaining")}
        found = {n: t.shape for n, t in state_dict.items() if not n.endswith(".remaining")}
        differing = sorted({name for name, _ in own.items() ^ found.items()})
        if not differing:
            return
        first, searched = differing[0], "decoder.alpha" in found
        if searched != ("decoder.alpha" in own):
            kind = (
                "a supernet: derive a genotype from it with dartsformer-derive and train that "
                "from the start"
                if searched
                else "no supernet: a search starts from a search's checkpoint or from none"
            )
        elif own.keys() == found.keys() and all(name.endswith(WORDS) for name in differing):
            kind = (
                "a model of another dictionary than the data's: "
                f"{found[first][0]} words in {first}, expected {own[first][0]}"
            )
        else:
            kind = (
                f"a different model: {len(differing)} of its tensors do not match (the first "
                f"is {first}); expected --arch and options of the model as in its training"
            )
        raise InputError(
            f"the checkpoint (--restore-file, --finetune-from-model or --path) holds {kind}"
        )


def options_of(group: Options) -> dict[str, Any]:
    """Return a checkpoint's options by name; old versions of fairseq saved a namespace."""
    return dict(vars(group) if isinstance(group, Namespace) else group)


def _defining(name: str, options: Mapping[str, Any], family: Family | None) -> str | None:
    """Return an option's value in one spelling; ``None`` where other options decide."""
    value = options.get(name)
    if name == "operation_norm" and name not in options:  # the paper's, before there were others
        return "post"
    if name.endswith("_operations") and name in options:
        return ",".join(parse_operations(value, name.removesuffix("_operations"), family))
    if name == "genotype" and value is not None:
        return " ".join(Genotype.load(str(value)).to_json().split())
    return None if value is None else str(value)
