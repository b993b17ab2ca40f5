"""What no model here can do, and checkpoints that are not its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from fairseq.models import ARCH_MODEL_NAME_REGISTRY
from omegaconf import DictConfig
from torch import Tensor

from ..errors import InputError, flag
from .option_checks import SIZES, parse_operations

# Options that make a network of the same parameters another one, and before them those that are
# clearer than the shapes that follow from them.
DEFINING = (
    *SIZES,
    *("search_layers", "encoder_splits", "decoder_splits"),
    *("encoder_operations", "decoder_operations", "pooling", "genotype"),
    *("no_scale_embedding", "no_token_positional_embeddings"),
)
WORDS = ("tokens.weight", "output_projection.weight")  # parameters that have a row a word


class CheckedModel:
    """Says in one line what a model cannot do or load; a mixin in front of fairseq's class."""

    NAME: ClassVar[str]

    def prepare_for_inference_(self, cfg: DictConfig) -> None:
        """Prepare for generation, as fairseq does.

        Raises:
            InputError: an option needs an alignment.
        """
        for name in ("print_alignment", "replace_unk"):
            value = cfg.generation[name]
            if value is not None:
                raise InputError(
                    f"{flag(name)} is {value}, it must be left out: {self.NAME} computes no "
                    "attention weights to align by"
                )
        super().prepare_for_inference_(cfg)

    @classmethod
    def check_options(cls, own: Mapping[str, Any], trained: Mapping[str, Any], path: str) -> None:
        """Check that a training goes on with the network that it began with.

        Args:
            own: options of the model now.
            trained: those in the checkpoint ``path``.

        Raises:
            InputError: they are of different networks.
        """
        model = trained.get("_name")
        if ARCH_MODEL_NAME_REGISTRY.get(model, model) != cls.NAME:
            return  # of which its tensors tell
        for name in DEFINING:
            now, then = (_defining(name, options) for options in (own, trained))
            if None not in (now, then) and now != then:
                raise InputError(
                    f"{flag(name)} is {now}, but {then} in the training that {path} is of: go on "
                    "with that, or give another --save-dir to begin anew"
                )

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
        if all(
            name.endswith(WORDS)
            and name in own.keys() & state_dict.keys()
            and own[name].shape[1:] == state_dict[name].shape[1:]
            for name in differing
        ):
            first = differing[0]
            kind = f"a model of another dictionary than the data's: {len(state_dict[first])} words"
            kind += f" in {first}, expected {len(own[first])}"
        elif searched == ("encoder.alpha" in own):
            kind = f"a different model: {len(differing)} of its tensors do not match"
            kind += f" (the first is {differing[0]}); expected --arch and options of the model"
            kind += " as in its training"
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


def _defining(name: str, options: Mapping[str, Any]) -> str | None:
    """An option's value as text; ``None`` where other options decide."""
    value = options.get(name)
    if name.endswith("_operations") and name in options:
        return ",".join(parse_operations(value, name.removesuffix("_operations")))
    return None if value is None else str(value)
