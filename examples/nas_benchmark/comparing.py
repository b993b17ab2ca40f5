"""Compares strategies: what they found, what that cost, and what random search gives for as much.

Costs are in candidate passes over 1,000 tokens (settings.py), which do not depend on the machine,
or in CPU time if the training of a random genotype has been timed on the machine of the searches.

Random search at equal cost trains k genotypes and takes the model with the lowest validation loss.
A search's genotype must still be trained: its cost is that of the search and of one training. So
k = 1 + search / training. The expected loss of the best of k, for any real k >= 1, is (Dodge et al.
2019, *Show Your Work*) `sum_i L_(i) [(1 - (i - 1) / N)^k - (1 - i / N)^k]`, where `L_(1) <= ... <=
L_(N)` are the losses of the N random genotypes. Selection by a loss that depends on the training
seed favours random search a little: its expected loss has lucky seeds, a strategy's mean has not.

Intervals are of 95 % and cover
- search seeds with the training seeds below them, by Student's t. The deviation of a search seed's
  mean loss is pooled over strategies, because the two seeds of one cannot tell it. A strategy whose
  seeds deviate significantly more (:func:`deviations`) has its own;
- the sample of random genotypes, by bootstrap. Each resample goes with an error drawn from that t.
Where no model has two seeds, they are unknown (NaN). What random search pays for a loss has an
interval of its own, of the sample of random genotypes alone.
They do not cover other data, sizes or settings, nor what costs are uncertain by; no correction is
made for the number of strategies.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from placing import (
    RESAMPLES,
    Benchmark,
    Deviation,
    Interval,
    error_of_mean,
    interval,
    pooled,
)
from scipy import stats
from settings import TRAINING, setting
from table import Row

Losses = Mapping[str, Sequence[Row]]  # the trainings of what each search seed found


@dataclass(frozen=True)
class Cost:
    """What a strategy's searches cost, on average.

    Attributes:
        updates: of a search.
        passes: candidate passes over 1,000 tokens.
        cpu_hours: as measured.
        peak_gb: peak of resident memory, in 10^9 bytes; the largest.
    """

    updates: float
    passes: float
    cpu_hours: float
    peak_gb: float


@dataclass(frozen=True)
class Line:
    """A strategy, or a baseline.

    Attributes:
        name: with a note if its genotypes were derived without `zero`.
        loss: validation loss at the end in bits, the mean over search seeds of ``seeds``.
        loss_interval: of ``loss``.
        seeds: mean loss of each search seed's genotype over its trainings; a baseline's trainings.
        percentile, adjusted: of ``loss``, see ``placing.Place``, with these intervals.
        seed_percentiles: of each of ``seeds``.
        bleu, chrf: of the test set, means.
        parameters: mean.
        cost: of a search; ``None`` for a baseline.
        random_trainings: expected number of random genotypes to train until one is as good.
        random_hours: expected CPU hours of these trainings.
        budget: k, the trainings for which random search costs as much.
        random_loss: expected loss of the best of k random genotypes.
        difference: ``loss - random_loss``; negative where the strategy is better.
    """

    name: str
    loss: float
    loss_interval: Interval
    seeds: tuple[float, ...]
    percentile: float
    percentile_interval: Interval
    seed_percentiles: tuple[float, ...]
    adjusted: float
    adjusted_interval: Interval
    bleu: float
    chrf: float
    parameters: float
    cost: Cost | None
    random_trainings: float
    random_trainings_interval: Interval
    random_hours: float
    budget: float
    random_loss: float
    difference: float
    difference_interval: Interval


@dataclass(frozen=True)
class Comparison:
    """Compares with the random genotypes of a benchmark.

    Attributes:
        benchmark: trainings of random genotypes.
        searches: rows of the table of searches.
        training_hours: CPU hours of a random genotype's training on the machine of the searches;
            costs are compared in passes if it is not given.
        search_only: leave the training of the genotype out of a search's cost: k = search /
            training, at least 1.
    """

    benchmark: Benchmark
    searches: Sequence[Row]
    training_hours: float | None = None
    search_only: bool = False

    @property
    def end(self) -> str:
        """The column of the loss that is compared."""
        return self.benchmark.losses[-1]

    def lines(
        self, found: Sequence[Row], without_zero: Sequence[Row] = (), baselines: Sequence[Row] = ()
    ) -> list[Line]:
        """A line for everything that has been trained, best first.

        Args:
            found: trainings of the genotypes that searches derived, named STRATEGY-SEED.
            without_zero: of those derived without `zero`.
            baselines: of models without a search.

        Raises:
            ValueError: a search is missing, trainings had other lengths, or there is none.
        """
        if not found:
            raise ValueError("the table of found genotypes has no training yet")
        for row in (*found, *without_zero, *baselines):
            if self.end not in row:
                raise ValueError(f"{row['name']} has no {self.end}, which random genotypes have")
        common, own = self.deviations(found)
        lines = []
        for note, rows in (("", found), (", without zero", without_zero)):
            for name, of in self._groups(rows).items():
                error, cost = own.get(name, common), self.cost(name, list(of))
                lines.append(self._line(name + note, of, error, cost))
        known: dict[str, list[Row]] = {}
        for row in baselines:
            known.setdefault(row["name"], []).append(row)
        noise = self.benchmark.deviation()
        for name, rows in known.items():
            lines.append(self._line(name, {row["seed"]: [row] for row in rows}, noise, None))
        return sorted(lines, key=lambda line: line.loss)

    def deviations(self, found: Sequence[Row]) -> tuple[Deviation, dict[str, Deviation]]:
        """See :func:`deviations`; of a search seed's mean loss.

        Where no strategy has two search seeds, that of the training seeds is all that is known.
        """
        groups = self._groups(found).items()
        means = {name: [self._mean(rows) for rows in of.values()] for name, of in groups}
        common, own = deviations(means)
        return (common if common.freedom else self.benchmark.deviation()), own

    def cost(self, strategy: str, seeds: Sequence[str]) -> Cost:
        """The mean cost of a strategy's searches."""
        rows = [self._searched[strategy, seed] for seed in seeds]
        updates = np.mean([int(row["updates"]) for row in rows])
        return Cost(
            updates=float(updates),
            passes=setting(strategy).cost(updates),
            cpu_hours=float(np.mean([float(row["cpu_seconds"]) for row in rows])) / 3600,
            peak_gb=max(int(row["peak_bytes"]) for row in rows) / 1e9,
        )

    def budget(self, cost: Cost | None) -> float:
        """k: how many genotypes random search trains for as much as a strategy costs."""
        if cost is None:
            return 1.0
        if self.training_hours is None:
            trainings = cost.passes / (TRAINING * int(self.end.removeprefix("loss_")))
        else:
            trainings = cost.cpu_hours / self.training_hours
        return max(1.0, trainings) if self.search_only else 1 + trainings

    @cached_property
    def _searched(self) -> dict[tuple[str, str], Row]:
        return {(row["name"], row["seed"]): row for row in self.searches}

    def _groups(self, found: Sequence[Row]) -> dict[str, dict[str, list[Row]]]:
        """The trainings by strategy and search seed, in the seeds' order."""
        groups: dict[str, dict[str, list[Row]]] = {}
        for row in found:
            strategy, _, seed = row["name"].rpartition("-")
            if (strategy, seed) not in self._searched:
                raise ValueError(f"{row['name']} is in no row of the table of searches")
            groups.setdefault(strategy, {}).setdefault(seed, []).append(row)
        return {name: {s: of[s] for s in sorted(of, key=int)} for name, of in groups.items()}

    def _mean(self, rows: Sequence[Row], column: str | None = None) -> float:
        return float(np.mean([float(row[column or self.end]) for row in rows]))

    def _line(self, name: str, of: Losses, error: Deviation, cost: Cost | None) -> Line:
        def mean(column: str) -> float:
            return float(np.mean([self._mean(rows, column) for rows in of.values()]))

        seeds = tuple(self._mean(rows) for rows in of.values())
        loss, distribution = float(np.mean(seeds)), error_of_mean(error, len(seeds))
        errors = distribution.rvs(RESAMPLES, random_state=2)
        half = float(distribution.ppf(0.975))
        sizes = [np.log(self._mean(rows, "parameters")) for rows in of.values()]
        place = self.benchmark.place(loss, np.exp(np.mean(sizes)), errors=errors)

        def known(found: Interval) -> Interval:
            return found if error.freedom else (np.nan, np.nan)

        losses, budget = self.benchmark.column(self.end), self.budget(cost)
        best = expected_best(losses[self.benchmark.resamples()], budget)
        random_loss = float(expected_best(losses[None], budget)[0])
        return Line(
            name=name,
            loss=loss,
            loss_interval=known((loss - half, loss + half)),
            seeds=seeds,
            percentile=place.percentile,
            percentile_interval=known(place.interval),
            seed_percentiles=tuple(map(self.benchmark.percentile, seeds)),
            adjusted=place.adjusted,
            adjusted_interval=known(place.adjusted_interval),
            bleu=mean("bleu"),
            chrf=mean("chrf"),
            parameters=mean("parameters"),
            cost=cost,
            random_trainings=place.trainings,
            random_trainings_interval=place.trainings_interval,
            random_hours=place.trainings * (self.training_hours or self.benchmark.cpu_hours()),
            budget=budget,
            random_loss=random_loss,
            difference=loss - random_loss,
            difference_interval=known(interval(loss + errors - best)),
        )


def deviations(
    groups: Mapping[str, Sequence[float]],
) -> tuple[Deviation, dict[str, Deviation]]:
    """The deviation within groups, and that of each group in which it is significantly larger.

    The group with the largest variance leaves the others if its ratio to theirs exceeds the 99 %
    quantile of F, with Bonferroni's correction, and so on (as Cochran's test in ISO 5725-2, for
    groups of any size).
    """
    alike, own = dict(groups), {}
    while alike:
        each = {name: pooled([group]) for name, group in alike.items()}
        name = max(each, key=lambda name: each[name].size)
        others = pooled([group for other, group in alike.items() if other != name])
        if not others.freedom:
            break
        bound = stats.f.isf(0.01 / len(alike), each[name].freedom, others.freedom)
        if not each[name].size > np.sqrt(bound) * others.size > 0:
            break
        own[name] = each[name]
        del alike[name]
    return pooled(list(alike.values())), own


def expected_best(losses: np.ndarray, k: float) -> np.ndarray:
    """The expected lowest of k losses drawn from each sample, samples × genotypes; k is real."""
    count = losses.shape[1]
    worse = (1 - np.arange(count + 1) / count) ** k  # that all k are worse than the i lowest
    return np.sort(losses, axis=1) @ -np.diff(worse)
