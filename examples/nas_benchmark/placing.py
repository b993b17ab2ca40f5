"""Where a loss stands among those of the random genotypes, and what random search pays for it."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from pathlib import Path

import numpy as np
from sampling import RANDOM, from_cells, to_cells
from scipy import stats
from table import Row, Table

from fairseq_dartsformer.search_space.genotype import Genotype

TABLE = Path(__file__).with_name("table.csv")
RESAMPLES = 10_000
Interval = tuple[float, float]  # 95 %


@dataclass(frozen=True)
class Place:
    """Where a loss stands.

    Attributes:
        percentile: percentage of the random genotypes with a higher loss; ties count half.
        interval: of ``percentile``, see :meth:`Benchmark.place`.
        adjusted: ``percentile`` after a regression of the losses on the logarithm of parameters.
        adjusted_interval: of ``adjusted``, likewise.
        trainings: expected number of random genotypes to train until one has a loss as low.
        trainings_interval: of ``trainings``, exact (Clopper-Pearson).
        cpu_hours: expected cost of these trainings.
    """

    percentile: float
    interval: Interval
    adjusted: float | None
    adjusted_interval: Interval | None
    trainings: float
    trainings_interval: Interval
    cpu_hours: float


@dataclass(frozen=True)
class Deviation:
    """A standard deviation and its degrees of freedom; without any, it is unknown."""

    size: float
    freedom: int

    def __str__(self) -> str:
        return f"{self.size:.4f}" if self.freedom else "unknown, none has two"


def pooled(groups: Sequence[Sequence[float]]) -> Deviation:
    """The deviation within groups, unknown if no group has two members."""
    freedom = sum(len(group) - 1 for group in groups)
    squares = sum(np.var(group) * len(group) for group in groups)
    return Deviation(float(np.sqrt(squares / max(1, freedom))), freedom)


def error_of_mean(error: Deviation, count: int) -> stats.rv_frozen:
    """Student's t of the mean of so many losses; of an unknown deviation nearly 0."""
    return stats.t(max(1, error.freedom), scale=max(1e-12, error.size / np.sqrt(count)))


@dataclass(frozen=True)
class Benchmark:
    """A table with its statistics; losses are validation losses in bits.

    Attributes:
        path: of the table.
        without: operations; random genotypes that have one of them are left out.
    """

    path: Path = TABLE
    without: frozenset[str] = frozenset()

    @cached_property
    def rows(self) -> list[Row]:
        """All trainings."""
        return Table(self.path).rows()

    @cached_property
    def models(self) -> dict[str, list[Row]]:
        """The trainings of each model, by its name; the first has the lowest seed."""
        found: dict[str, list[Row]] = {}
        for row in self.rows:
            found.setdefault(row["name"], []).append(row)
        return found

    @cached_property
    def random(self) -> dict[str, list[Row]]:
        """The trainings of each random genotype, by its name.

        Raises:
            ValueError: there are fewer than two.
        """
        found = {
            name: rows
            for name, rows in self.models.items()
            if name.startswith(RANDOM) and self.without.isdisjoint(operations_of(rows[0]))
        }
        if len(found) < 2:
            raise ValueError(f"{self.path}: expected the trainings of two random genotypes or more")
        return found

    @property
    def losses(self) -> list[str]:
        """The columns of losses, the last one that at the end."""
        row, *_ = next(iter(self.random.values()))
        return [column for column in row if column.startswith("loss_")]

    def column(self, name: str) -> np.ndarray:
        """A number of each random genotype's first training."""
        return np.array([float(rows[0][name]) for rows in self.random.values()])

    def cpu_hours(self) -> float:
        """CPU hours of a training, on average."""
        costs = [row["cpu_seconds"] for rows in self.random.values() for row in rows]
        return float(np.mean([float(cost) for cost in costs if cost])) / 3600

    def deviation(self) -> Deviation:
        """That of the loss across training seeds, pooled over all models of the table."""
        end = self.losses[-1]
        return pooled([[float(row[end]) for row in rows] for rows in self.models.values()])

    def query(self, genotype: Genotype | str | os.PathLike[str]) -> list[Row]:
        """The genotype's trainings, none if the table has none of it.

        Args:
            genotype: also a file, a built-in name or JSON text.
        """
        if not isinstance(genotype, Genotype):
            genotype = Genotype.load(genotype)
        rows = [row for row in self.rows if row["decoder"]]  # others are no genotypes
        return [row for row in rows if to_cells(from_cells(row)) == to_cells(genotype)]

    def percentile(self, loss: float) -> float:
        """Percentage of the random genotypes with a higher loss; ties count half."""
        return float(_percentile(self.column(self.losses[-1])[None], loss)[0])

    def resamples(self) -> np.ndarray:
        """Bootstrap samples of random genotypes: indices, resamples × genotypes."""
        count = len(self.random)
        return np.random.default_rng(1).integers(0, count, (RESAMPLES, count))

    def place(
        self,
        loss: float,
        parameters: float | None = None,
        seeds: int = 1,
        errors: np.ndarray | None = None,
    ) -> Place:
        """Place a loss among those of the random genotypes.

        The bootstrap resamples the random genotypes and adds errors to the placed loss. Intervals
        of percentiles are at least as wide as Clopper and Pearson's for the share of genotypes,
        since no resample has a loss beyond those of the table.

        Args:
            loss: of a training by the protocol, or the mean over several seeds.
            parameters: of the model; without them nothing is adjusted.
            seeds: how many trainings ``loss`` is the mean of.
            errors: of ``loss``, one for each resample; by default those of training seeds, with
                :meth:`deviation`, and none where no model has two seeds.
        """
        losses, sizes = self.column(self.losses[-1]), np.log(self.column("parameters"))
        drawn = self.resamples()
        if errors is None:
            errors = error_of_mean(self.deviation(), seeds).rvs(RESAMPLES, random_state=2)
        noisy = loss + errors[:, None]
        percentile = self.percentile(loss)
        adjusted = adjusted_interval = None
        if parameters is not None:
            size = np.log(parameters)
            adjusted = float(_adjusted(losses[None], sizes[None], loss, size)[0])
            samples = _adjusted(losses[drawn], sizes[drawn], noisy, size)
            adjusted_interval = _widened(interval(samples), adjusted, len(losses))
        reached = int((losses <= loss).sum())
        low, high = _exact(reached, len(losses))
        trainings = len(losses) / reached if reached else np.inf
        return Place(
            percentile=percentile,
            interval=_widened(interval(_percentile(losses[drawn], noisy)), percentile, len(losses)),
            adjusted=adjusted,
            adjusted_interval=adjusted_interval,
            trainings=trainings,
            trainings_interval=(1 / high, 1 / low if low else np.inf),
            cpu_hours=trainings * self.cpu_hours(),
        )

    def tau_of_lengths(self) -> dict[str, float]:
        """Kendall's tau of each earlier loss with that at the end."""
        *earlier, end = self.losses
        return {name: _tau(self.column(name), self.column(end)) for name in earlier}

    def tau_of_seeds(self) -> dict[tuple[str, str], float]:
        """Kendall's tau between two seeds' losses, over the genotypes that have both."""
        end = self.losses[-1]
        losses = [{row["seed"]: float(row[end]) for row in rows} for rows in self.random.values()]
        taus = {}
        for pair in combinations(sorted(set().union(*losses)), 2):
            both = [[by_seed[s] for s in pair] for by_seed in losses if by_seed.keys() >= set(pair)]
            if len(both) > 1:
                taus[pair] = _tau(*np.array(both).T)
        return taus


def query(genotype: Genotype | str | os.PathLike[str], path: Path = TABLE) -> list[Row]:
    """The genotype's trainings: see :meth:`Benchmark.query`."""
    return Benchmark(path).query(genotype)


def place(loss: float, parameters: int | None = None, seeds: int = 1, path: Path = TABLE) -> Place:
    """Where a loss stands: see :meth:`Benchmark.place`."""
    return Benchmark(path).place(loss, parameters, seeds)


def operations_of(row: Row) -> set[str]:
    """The operations of a row's genotype."""
    return {*row["encoder"].split(), *row["decoder"].split()} - {"/"}


def _percentile(losses: np.ndarray, loss: np.ndarray | float) -> np.ndarray:
    """Percentiles in each sample of ``losses``, samples × genotypes; ``loss`` is samples × 1."""
    return 100 * ((losses > loss) + (losses == loss) / 2).mean(1)


def _adjusted(
    losses: np.ndarray, sizes: np.ndarray, loss: np.ndarray | float, size: float
) -> np.ndarray:
    """Percentiles of the residuals of each sample's least-squares line through (size, loss)."""
    centred = sizes - sizes.mean(1, keepdims=True)
    variance = (centred**2).sum(1, keepdims=True)
    covariance = (centred * losses).sum(1, keepdims=True)
    slope = np.divide(covariance, variance, out=np.zeros_like(variance), where=variance > 0)
    return _percentile(losses - slope * (sizes - size), loss)


def interval(samples: np.ndarray) -> Interval:
    """From the 2.5th to the 97.5th percentile of bootstrap samples."""
    low, high = np.percentile(samples, [2.5, 97.5])
    return float(low), float(high)


def _exact(reached: int, count: int) -> Interval:
    """Clopper and Pearson's interval of a share."""
    share = stats.binomtest(reached, count).proportion_ci(method="exact")
    return share.low, share.high


def _widened(samples: Interval, percentile: float, count: int) -> Interval:
    """A bootstrap's interval, widened to Clopper and Pearson's of a percentile among ``count``."""
    higher = round(percentile / 50 * count) / 2  # half of a genotype with an equal loss counts
    low, _ = _exact(math.floor(higher), count)
    _, high = _exact(math.ceil(higher), count)
    return min(samples[0], 100 * low), max(samples[1], 100 * high)


def _tau(a: np.ndarray, b: np.ndarray) -> float:
    return float(stats.kendalltau(a, b).statistic)
