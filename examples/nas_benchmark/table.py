"""The table of trainings: a CSV file, which several workers extend."""

from __future__ import annotations

import csv
import fcntl
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

Row = Mapping[str, str]


def lengths(updates: int) -> tuple[int, ...]:
    """The updates at which a training is validated: an eighth, a quarter, half and the end."""
    return tuple(updates // part for part in (8, 4, 2, 1))


def columns(updates: int, scores: Sequence[str] = ("bleu", "chrf")) -> list[str]:
    """The header of a table of trainings of this length, with the scores of their tests."""
    losses = [f"{m}_{length}" for m in ("loss", "nll_loss") for length in lengths(updates)]
    genotype = ["name", "pooling", "norm", "encoder", "decoder"]
    return [*genotype, "parameters", "seed", *losses, *scores, "cpu_seconds"]


@dataclass(frozen=True)
class Table:
    """Reads and extends a table; the file need not exist."""

    path: Path

    def rows(self) -> list[Row]:
        """All trainings, by name and seed; a table without norms has them all empty."""
        if not self.path.exists():
            return []
        with self.path.open(encoding="utf-8", newline="") as file:
            return [{**row, "norm": row.get("norm", "")} for row in csv.DictReader(file)]

    def has(self, name: str, seed: int) -> bool:
        """Whether it has this training."""
        return any((row["name"], int(row["seed"])) == (name, seed) for row in self.rows())

    def add(self, row: Row) -> None:
        """Add a row, or replace that of the same name and seed.

        The file is replaced as one, so that a worker killed here leaves a complete table.

        Raises:
            ValueError: the table has other columns.
        """
        with open(f"{self.path}.lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            rows = {(r["name"], int(r["seed"])): r for r in [*self.rows(), row]}
            if any(r.keys() != row.keys() for r in rows.values()):
                raise ValueError(f"{self.path} has other columns than {', '.join(row)}")
            partial = Path(f"{self.path}.tmp")
            with partial.open("w", encoding="utf-8", newline="") as file:
                writer = csv.DictWriter(file, list(row), lineterminator="\n")
                writer.writeheader()
                writer.writerows(rows[key] for key in sorted(rows))
                file.flush()
                os.fsync(file.fileno())
            partial.replace(self.path)
