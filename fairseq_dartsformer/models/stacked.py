"""The base class of supernets and derived models, whatever stacks they have."""

from __future__ import annotations

from collections.abc import Mapping

from fairseq.tasks import FairseqTask
from torch import nn

from .architectures import fill_sizes
from .checkpoint_checks import CheckedModel
from .config import SizeConfig
from .option_checks import Block, check_sizes


class StackedModel(CheckedModel):
    """Mixin in front of fairseq's class of a model of stacks on factorised embeddings."""

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
    ) -> StackedModel:
        """Build the model.

        Args:
            cfg: the model's options; missing sizes are filled in.
            task: has the dictionaries.
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
        return cls.assemble(cfg, task, stacks, alphas)

    @classmethod
    def assemble(
        cls,
        cfg: SizeConfig,
        task: FairseqTask,
        stacks: Mapping[str, nn.Module],
        alphas: Mapping[str, nn.Parameter],
    ) -> StackedModel:
        """Put embeddings and output layer around the stacks; arguments as for :meth:`build`."""
        raise NotImplementedError
