"""How a search's weights rank the random genotypes, against the ranking by training alone."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
from placing import RESAMPLES, Benchmark, Interval, interval
from sampling import from_cells

from fairseq_dartsformer.errors import InputError
from fairseq_dartsformer.evolution.scoring import ScoreConfig, Scorer
from fairseq_dartsformer.search_space.genotype import Genotype

COLUMNS = ("name", "inherited_loss", "loss")


def inherited_losses(
    checkpoint: Path, data: Path, genotypes: Mapping[str, Genotype]
) -> Iterator[tuple[str, float]]:
    """Yield names and validation losses, in bits, of genotypes with the weights of a supernet.

    Args:
        checkpoint: of a search.
        data: binarised.
        genotypes: by name; those with an operation that is no candidate of the search, or that it
            has pruned, are left out.

    Raises:
        InputError: the checkpoint, the data or a genotype does not fit.
    """
    scorer = Scorer(ScoreConfig(str(checkpoint), str(data), max_tokens=8000))
    allowed = scorer.allowed()
    for name, genotype in genotypes.items():
        try:
            architecture = scorer.architecture(genotype)
            same = scorer.snapshot.genotype(scorer.choice(architecture)) == genotype
        except ValueError:  # of a list without the operation
            continue
        except IndexError:
            same = False
        if not same:
            raise InputError(f"{checkpoint}: {name} is not in the space of this search")
        if all(o in known for o, known in zip(architecture, allowed, strict=True)):
            yield name, scorer.score(architecture)


def rank(checkpoint: Path, data: Path, benchmark: Benchmark) -> list[tuple[str, float, float]]:
    """Names of the random genotypes, their losses with inherited weights, and trained alone."""
    genotypes = {name: from_cells(rows[0]) for name, rows in benchmark.random.items()}
    alone = dict(zip(benchmark.random, benchmark.column(benchmark.losses[-1]), strict=True))
    scores = inherited_losses(checkpoint, data, genotypes)
    return [(name, score, float(alone[name])) for name, score in scores]


def tau_interval(a: np.ndarray, b: np.ndarray) -> tuple[float, Interval]:
    """Kendall's tau-b of paired numbers, with the 95 % interval of a bootstrap over the pairs.

    A resample is a weight w of each pair, and tau-b is `w'(A * B)w / sqrt(w'|A|w · w'|B|w)`, where
    A and B are the signs of all differences.
    """
    signs = [np.sign(x[:, None] - x[None]) for x in (a, b)]
    products = (signs[0] * signs[1], *map(np.abs, signs))
    count = len(a)
    drawn = np.random.default_rng(1).multinomial(count, np.full(count, 1 / count), RESAMPLES)
    weights = np.concatenate([np.ones((1, count)), drawn])
    agreement, *pairs = (((weights @ product) * weights).sum(1) for product in products)
    with np.errstate(invalid="ignore"):  # a resample may have equal numbers alone
        taus = agreement / np.sqrt(pairs[0] * pairs[1])
    return float(taus[0]), interval(taus[1:][np.isfinite(taus[1:])])


def write(path: Path, ranked: list[tuple[str, float, float]]) -> None:
    """Write the losses as CSV."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows((name, f"{score:.4f}", f"{loss:.3f}") for name, score, loss in ranked)
