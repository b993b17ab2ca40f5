"""What supernets, and the models derived from them, have in common, whatever stacks they have."""

from __future__ import annotations

from typing import ClassVar

from fairseq.tasks import FairseqTask
from omegaconf import DictConfig
from torch import Tensor

from ..errors import InputError
from ..fairseq_patches.reading import load_checkpoint, reading
from ..search_space.families import Family
from .blocks import derived_blocks, searched_blocks
from .config import CandidatesConfig, GenotypeConfig
from .option_checks import check_at_least
from .stacked import StackedModel
from .warm_start import Supernet


class SearchModel:
    """Mixin in front of the stacks of a supernet."""

    FAMILY: ClassVar[Family]

    @classmethod
    def build_model(cls, cfg: CandidatesConfig, task: FairseqTask) -> StackedModel:
        """Build the supernet; raises what :meth:`StackedModel.build` raises."""
        pooling = None
        if cls.FAMILY.pooled:
            cfg.decoder_splits, pooling = cls.FAMILY.nodes_of(cfg)["decoder"], str(cfg.pooling)
            for stack in cls.FAMILY.stacks:
                check_at_least(cfg, f"{stack}_splits", 2)
        return cls.build(cfg, task, *searched_blocks(cfg, cls.FAMILY), pooling)


class DerivedModel:
    """Mixin in front of the stacks of a derived model."""

    FAMILY: ClassVar[Family]

    @classmethod
    def build_model(cls, cfg: GenotypeConfig, task: FairseqTask) -> StackedModel:
        """Build the network of ``--genotype``, with which its other options must agree."""
        blocks, pooling = derived_blocks(cfg, cls.FAMILY)
        return cls.build(cfg, task, blocks, pooling=pooling)

    def inherited_weights(self, cfg: DictConfig) -> dict[str, Tensor]:
        """Read the weights from the checkpoint of ``--init-from-search``.

        fairseq's trainer asks for them at the start of a training, and not when it resumes.

        Args:
            cfg: all options of the training; those of the model are filled in.

        Returns:
            all parameters by name; none without the option.

        Raises:
            InputError: the checkpoint cannot be read, or is of another search space, network or
                dictionary.
        """
        path = getattr(cfg.model, "init_from_search", None)
        if path is None:
            return {}
        if cfg.checkpoint.finetune_from_model is not None:
            raise InputError(
                f"--init-from-search is {path} and --finetune-from-model is "
                f"{cfg.checkpoint.finetune_from_model}: give one of them"
            )
        try:
            with reading(path):
                supernet = Supernet(load_checkpoint(path), self.FAMILY)
                return supernet.weights_for(self, cfg.model, path)
        except InputError as error:
            raise InputError(f"--init-from-search is {path}: {error}") from None
