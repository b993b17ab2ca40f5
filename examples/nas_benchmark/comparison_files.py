"""The comparison as Markdown, CSV and JSON."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from comparing import Cost, Line

HEAD = (
    "",
    "loss (seeds)",
    "percentile (seeds)",
    "at equal parameters",
    "BLEU",
    "chrF",
    "parameters",
)
HEAD += ("updates", "passes", "CPU hours", "GB")
HEAD += ("random search: trainings for this loss", "CPU hours", "k", "loss minus best of k")


def markdown(lines: Sequence[Line]) -> str:
    """The comparison as a table."""
    rows = [HEAD, ["---"] * len(HEAD), *map(list, map(_cells, lines))]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def save_lines(lines: Sequence[Line], path: Path) -> None:
    """Write all numbers, as JSON if the file's name ends so, otherwise as CSV.

    In JSON, null stands for what is infinite or unknown, and for the costs of a baseline. In CSV,
    an interval has two columns, the numbers of several seeds are separated by spaces, and a
    baseline's costs are empty.
    """
    if path.suffix == ".json":
        text = json.dumps([_finite(asdict(line)) for line in lines], indent=1, allow_nan=False)
        path.write_text(f"{text}\n", encoding="utf-8")
        return
    with path.open("w", encoding="utf-8", newline="") as file:
        rows = [dict(_flat(asdict(line))) for line in lines]
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def _cells(line: Line) -> Iterator[str]:
    yield line.name
    seeds = ", ".join(f"{loss:.3f}" for loss in line.seeds)
    yield f"{line.loss:.3f} {_interval(line.loss_interval, 3)} ({seeds})"
    seeds = ", ".join(f"{percentile:.0f}" for percentile in line.seed_percentiles)
    yield f"{line.percentile:.0f} {_interval(line.percentile_interval, 0)} ({seeds})"
    yield f"{line.adjusted:.0f} {_interval(line.adjusted_interval, 0)}"
    yield from (f"{line.bleu:.2f}", f"{line.chrf:.2f}", f"{line.parameters:,.0f}")
    cost = line.cost
    if cost is None:
        yield from [""] * len(fields(Cost))
    else:
        yield from (f"{cost.updates:,.0f}", f"{cost.passes:,.0f}")
        yield from (f"{cost.cpu_hours:.2f}", f"{cost.peak_gb:.2f}")
    trainings = _interval(line.random_trainings_interval, 1)
    yield f"{_number(line.random_trainings, 1)} {trainings}"
    yield _number(line.random_hours, 1)
    yield f"{line.budget:.2f}"
    yield f"{line.difference:+.3f} {_interval(line.difference_interval, 3)}"


def _number(value: float, digits: int) -> str:
    if math.isnan(value):
        return "–"
    return "∞" if math.isinf(value) else f"{value:.{digits}f}"


def _interval(pair: Sequence[float], digits: int) -> str:
    return f"[{', '.join(_number(value, digits) for value in pair)}]"


def _finite(value: Any) -> Any:
    """The value with ``None`` for each number in it that is not finite."""
    if isinstance(value, dict):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, tuple):
        return [_finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _flat(record: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """The columns of a line in CSV."""
    for name, value in record.items():
        if name == "cost":
            yield from (value or dict.fromkeys((field.name for field in fields(Cost)), "")).items()
        elif name.endswith("_interval"):
            yield from zip((f"{name}_low", f"{name}_high"), value, strict=True)
        else:
            yield name, " ".join(map(str, value)) if isinstance(value, tuple) else value
