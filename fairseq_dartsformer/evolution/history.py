"""The history of an evolutionary search: a file of JSON lines, from which it can resume."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..search_space.genotype import Genotype

WRONG = (ValueError, KeyError, TypeError, AttributeError, RecursionError)  # by foreign content


def read_scores(path: str) -> tuple[str, dict[Genotype, float]]:
    """Read a history without resuming it.

    Returns:
        The name of the score, ``"loss"`` or ``"bleu"``, and the scores.

    Raises:
        InputError: the file cannot be read, or is not a history.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
        complete = text[: text.rfind("\n") + 1]
        begun, *records = map(json.loads, complete.splitlines())
        return str(begun["score"]), _scores(records, str(begun["score"]), Path(path))
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from None
    except WRONG as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path}: is not the history of a search") from None


def _scores(records: Iterable[Any], score: str, path: Path) -> dict[Genotype, float]:
    return {
        Genotype.from_json(json.dumps(r["genotype"]), f"in {path}"): float(r[score])
        for r in records
    }


class History:
    """A line for every scored genotype: generation, score, parameters, genotype.

    The first line holds the settings. A last line that a kill has cut short is dropped. A file that
    is not the history of the same search stays untouched.

    Args:
        path: the file, created if missing.
        score: name of the score.
        settings: everything that the scores and their order depend on.

    Raises:
        InputError: the file is not a history, has other settings, or cannot be written.
    """

    def __init__(self, path: Path, score: str, settings: Mapping[str, Any]):
        self.path, self.score = path, score
        self.scores: dict[Genotype, float] = {}
        first = json.dumps(settings)
        try:
            written = path.read_bytes() if path.exists() else b""
            complete = written[: written.rfind(b"\n") + 1]
            lines = complete.decode().splitlines()
        except OSError as error:
            raise InputError(f"--history {path}: {error.strerror}") from None
        except UnicodeDecodeError:
            raise self._foreign() from None
        if lines:
            self._read(lines, json.loads(first))
        elif not first.encode().startswith(written):
            raise self._foreign()
        self._append("" if lines else first + "\n", len(complete))

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
            self.scores = _scores(records, self.score, path)
        except WRONG as error:
            if isinstance(error, InputError):
                raise
            raise self._foreign() from None

    def _foreign(self) -> InputError:
        return InputError(f"--history {self.path}: is not the history of a search")

    def add(self, genotype: Genotype, score: float, parameters: int, generation: int) -> None:
        """Write a scored genotype to the file; raise an :class:`InputError` if that fails, for
        example on a full disk."""
        record = {"generation": generation, self.score: score, "parameters": parameters}
        record["genotype"] = json.loads(genotype.to_json())
        self._append(json.dumps(record) + "\n")
        self.scores[genotype] = score

    def _append(self, text: str, size: int | None = None) -> None:
        """Append to the file, or to its first ``size`` bytes."""
        try:
            with open(self.path, "ab") as file:
                if size is not None:
                    file.truncate(size)
                file.write(text.encode())
        except OSError as error:
            message = f"--history {self.path}: cannot be written: {error.strerror}"
            raise InputError(message) from None
