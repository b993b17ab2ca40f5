"""What derived models have in common, whatever stacks they have."""

from __future__ import annotations

from fairseq.tasks import FairseqTask

from .blocks import derived_blocks
from .config import GenotypeConfig
from .stacked import StackedModel
from .warm_start import WarmStarted


class DerivedModel(WarmStarted):
    """Mixin in front of the stacks of a derived model."""

    @classmethod
    def build_model(cls, cfg: GenotypeConfig, task: FairseqTask) -> StackedModel:
        """Build the network of ``--genotype``, with which its other options must agree."""
        blocks, pooling = derived_blocks(cfg, cls.FAMILY)
        return cls.build(cfg, task, blocks, pooling=pooling)
