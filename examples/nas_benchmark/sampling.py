"""Genotypes of the benchmark's space: drawn uniformly, and as cells of a CSV file."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

from fairseq_dartsformer.operations import DECODER_OPERATIONS, ENCODER_OPERATIONS
from fairseq_dartsformer.search_space.genotype import Genotype

LAYERS = 2  # layers of a block (s)
NODES = 2  # searched nodes of a layer, in the encoder and in the decoder
REQUIRED = ["name", "pooling", "encoder", "decoder"]  # a file without norms has "post"
COLUMNS = ["name", "pooling", "norm", "encoder", "decoder"]
RANDOM = "random-"  # how the names of random genotypes begin


@dataclass(frozen=True)
class Named:
    """A genotype and the name of its runs."""

    name: str
    genotype: Genotype


def sample(count: int, seed: int) -> list[Named]:
    """Draw genotypes: every searched node is uniform among its candidates.

    A longer list with the same seed begins with the shorter one.
    """
    choice = Random(seed).choice
    drawn = []
    for number in range(count):
        encoder = [[choice(ENCODER_OPERATIONS) for _ in range(NODES)] for _ in range(LAYERS)]
        decoder = [[choice(DECODER_OPERATIONS) for _ in range(NODES)] for _ in range(LAYERS)]
        decoder = [[*layer, "cross_attention"] for layer in decoder]  # the fixed last split
        drawn.append(Named(f"{RANDOM}{number:03d}", Genotype(encoder, decoder, pooling="max")))
    return drawn


def to_cells(genotype: Genotype) -> dict[str, str]:
    """A genotype as cells of a table: operations separated by spaces, layers by slashes. The
    encoder of a language model is empty."""
    blocks = {"encoder": (), **genotype.blocks}
    cells = {name: " / ".join(map(" ".join, layers)) for name, layers in blocks.items()}
    return {"pooling": genotype.pooling, "norm": genotype.norm, **cells}


def from_cells(cells: Mapping[str, str]) -> Genotype:
    """The inverse of :func:`to_cells`; a missing or empty norm is ``"post"``.

    Raises:
        InputError: the cells are not a genotype.
    """
    blocks = {
        stack: [layer.split() for layer in cells[stack].split("/")]
        for stack in ("encoder", "decoder")
        if cells[stack]
    }
    family = "dartsformer" if "encoder" in blocks else "dartsformer_lm"
    norm = cells.get("norm") or "post"
    return Genotype(**blocks, pooling=cells["pooling"], family=family, norm=norm)


def write_list(path: Path, genotypes: Sequence[Named]) -> None:
    """Write named genotypes as CSV."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows({"name": g.name, **to_cells(g.genotype)} for g in genotypes)


def read_list(path: Path) -> list[Named]:
    """The named genotypes of a CSV file.

    Raises:
        ValueError: a column is missing.
        InputError: a row is not a genotype.
    """
    with path.open(encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        if missing := [c for c in REQUIRED if c not in (reader.fieldnames or [])]:
            raise ValueError(f"{path} has no column {' and '.join(missing)}")
        return [Named(row["name"], from_cells(row)) for row in reader]
