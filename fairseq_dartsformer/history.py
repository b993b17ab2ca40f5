"""The record of an evolutionary search: a file of JSON lines, from which it can be taken up."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .errors import InputError
from .genotype import Genotype


class History:
    """Every scored genotype, a line each: generation, score, parameters, genotype.

    The first line has what the scores and their order depend on. A last line that was cut short, as
    by a kill, is dropped.

    Args:
        path: of the file, made if need be.
        score: name of the score.
        settings: what the first line says.

    Raises:
        InputError: the file is no history, cannot be written, or is one of other settings.
    """

    def __init__(self, path: Path, score: str, settings: Mapping[str, Any]):
        self.path, self.score = path, score
        self.scores: dict[Genotype, float] = {}
        try:
            written = path.read_bytes() if path.exists() else b""
            whole = written[: written.rfind(b"\n") + 1]
            lines = whole.decode().splitlines()
            with open(path, "ab") as file:
                file.truncate(len(whole))
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "is not text"
            raise InputError(f"--history {path}: {reason}") from None
        if lines:
            self._read(lines, json.loads(json.dumps(settings)))
        else:
            self._write(settings)

    def _read(self, lines: list[str], settings: Mapping[str, Any]) -> None:
        path = self.path
        try:
            begun, *records = map(json.loads, lines)
            for name in [*settings, *begun]:
                if begun.get(name) != settings.get(name):
                    raise InputError(
                        f"--history {path}: was begun with {name} = {begun.get(name)}, now it is "
                        f"{settings.get(name)}: give the same, or another --history"
                    )
            for record in records:
                genotype = Genotype.from_json(json.dumps(record["genotype"]), f"in {path}")
                self.scores[genotype] = float(record[self.score])
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            if isinstance(error, InputError):
                raise
            raise InputError(f"--history {path}: is not the history of a search") from None

    def add(self, genotype: Genotype, score: float, parameters: int, generation: int) -> None:
        """Record a genotype, at once and wholly."""
        self.scores[genotype] = score
        self._write(
            {
                "generation": generation,
                self.score: score,
                "parameters": parameters,
                "genotype": json.loads(genotype.to_json()),
            }
        )

    def _write(self, record: Mapping[str, Any]) -> None:
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")
