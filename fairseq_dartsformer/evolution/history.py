"""The record of an evolutionary search: a file of JSON lines, from which it can be taken up."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..search_space.genotype import Genotype


class History:
    """Every scored genotype, a line each: generation, score, parameters, genotype.

    The first line has what the scores and their order depend on. A last line that was cut short, as
    by a kill, is dropped. A file that is no history of the same search is left as it is.

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
        first = json.dumps(settings)
        try:
            written = path.read_bytes() if path.exists() else b""
            whole = written[: written.rfind(b"\n") + 1]
            lines = whole.decode().splitlines()
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "is not text"
            raise InputError(f"--history {path}: {reason}") from None
        if lines:
            self._read(lines, json.loads(first))
        elif not first.encode().startswith(written):
            raise self._foreign()
        self._append("" if lines else first + "\n", len(whole))

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
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            if isinstance(error, InputError):
                raise
            raise self._foreign() from None

    def _foreign(self) -> InputError:
        return InputError(f"--history {self.path}: is not the history of a search")

    def add(self, genotype: Genotype, score: float, parameters: int, generation: int) -> None:
        """Record a genotype, at once and wholly.

        Raises:
            InputError: the file cannot be written, as on a full disk.
        """
        record = {
            "generation": generation,
            self.score: score,
            "parameters": parameters,
            "genotype": json.loads(genotype.to_json()),
        }
        self._append(json.dumps(record) + "\n")
        self.scores[genotype] = score

    def _append(self, text: str, size: int | None = None) -> None:
        """Write behind what is there, or behind the first ``size`` bytes of it."""
        try:
            with open(self.path, "ab") as file:
                if size is not None:
                    file.truncate(size)
                file.write(text.encode())
        except OSError as error:
            reason = f"cannot be written: {error.strerror}"
            raise InputError(f"--history {self.path}: {reason}") from None
