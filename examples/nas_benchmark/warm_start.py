"""How many updates a warm start saves."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from training import validations


@dataclass(frozen=True)
class WarmStart:
    """One genotype, trained from new weights and from its search's.

    Attributes:
        name: of both trainings' folders.
        fresh: validation losses (bits) by updates.
        warm: the same with the search's weights.
    """

    name: str
    fresh: Mapping[int, float]
    warm: Mapping[int, float]

    @property
    def reached(self) -> float:
        """Updates after which the warm training has the fresh one's last loss; infinite if never.

        Between two validations the loss is taken to be linear.
        """
        target = self.fresh[max(self.fresh)]
        losses = sorted(self.warm.items())
        if losses[0][1] <= target:
            return losses[0][0]
        for (before, above), (after, loss) in pairwise(losses):
            if loss <= target:
                return before + (after - before) * (above - target) / (above - loss)
        return math.inf

    def __str__(self) -> str:
        """A line of the command."""
        end = max(self.fresh)
        reached = "never" if math.isinf(self.reached) else f"after {self.reached:.0f} updates"
        text = f"{self.name}: loss after {end} updates {self.fresh[end]:.3f}, with a warm start "
        return text + f"{self.warm[max(self.warm)]:.3f}; it reaches {self.fresh[end]:.3f} {reached}"


def warm_starts(fresh: Path, warm: Path) -> Iterator[WarmStart]:
    """The genotypes that have been trained in both folders of runs, by name."""
    for log in sorted(warm.glob("*.seed*/train.log")):
        other = fresh / log.parent.name / log.name
        if all((path.parent / "cpu_seconds").exists() for path in (log, other)):
            losses = [validations(path.read_text(errors="replace")) for path in (other, log)]
            yield WarmStart(log.parent.name, *losses)
