"""What no model here can do, and checkpoints that are not its own."""

from __future__ import annotations

from typing import ClassVar

from omegaconf import DictConfig
from torch import Tensor

from ..errors import InputError

WORDS = ("tokens.weight", "output_projection.weight")  # parameters that have a row a word


class CheckedModel:
    """Says in one line what a model cannot do or load; a mixin in front of fairseq's class."""

    NAME: ClassVar[str]

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
