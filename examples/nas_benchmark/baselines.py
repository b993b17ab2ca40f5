"""Known models, trained by the benchmark's protocol.

A genotype has the benchmark's embedding and widths, as random genotypes have. The models of fairseq
and the Evolved Transformer cannot factorise their embedding: their width is smaller, 56, and their
inner width gives them the mean number of parameters of the 48 published random genotypes, 428,304
with a dictionary of 4,344 types, to 0.1 %. All have 2 + 2 layers, 4 heads and one dropout rate.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sampling import COLUMNS, Named
from training import SHARED, UPDATES, Run

from fairseq_dartsformer.search_space.genotype import BUILTIN

TRANSFORMER = " ".join(
    f"--{stack}-embed-dim 56 --{stack}-ffn-embed-dim 236 --{stack}-attention-heads 4"
    for stack in ("encoder", "decoder")
)
EVOLVED = "--hidden-dim 56 --ffn-dim 316 --attention-heads 4"
RATES = "--attention-dropout 0 --activation-dropout 0"  # the defaults of the other models
PRE_LN = "--encoder-normalize-before --decoder-normalize-before"


@dataclass(frozen=True)
class Model:
    """A model that is no genotype.

    Attributes:
        options: fairseq-train's architecture and sizes.
    """

    name: str
    options: str


class ModelRun(Run):
    """One training of a model that is no genotype, with its test."""

    named: Model

    def prepare_model(self) -> str:
        """Return the architecture with its sizes."""
        return self.named.options

    def model_options(self) -> tuple[list[str], list[str]]:
        """The architecture with its sizes, and no genotype."""
        return f"{self.named.options} {SHARED} --task translation".split(), []

    def cells(self) -> dict[str, str]:
        """Empty."""
        return dict.fromkeys(COLUMNS[1:], "")


MODELS = (
    Model("transformer", f"--arch transformer {TRANSFORMER}"),
    Model("transformer_pre_ln", f"--arch transformer {TRANSFORMER} {PRE_LN}"),
    Model("evolved_transformer", f"--arch evolved_transformer {EVOLVED} {RATES}"),
)


def baselines(seed: int, data: Path, out: Path, updates: int = UPDATES) -> list[Run]:
    """A training of each baseline: the models above, and the built-in genotypes."""
    where = (seed, data, out, updates)
    return [ModelRun(model, *where) for model in MODELS] + [
        Run(Named(name, genotype), *where) for name, genotype in BUILTIN.items()
    ]
