"""Statistics that fairseq logged in the course of a training."""

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ..errors import InputError

# Pairs of updates and value, ordered by updates.
Curve = list[tuple[int, float]]

# Only the text of a message is read: before it, fairseq-train, hydra and --log-file write different
# things, or nothing.
PROGRESS = re.compile(r"\bepoch \d+(?P<inner>:)?(?: \| valid on '(?P<split>[^']+)' subset)?")
STATISTIC = re.compile(r"(\w+)[= ]([-+]?(?:\d[\d.]*(?:e[-+]?\d+)?|nan|inf))(?=,|]| \||\s*$)", re.I)
STATE = re.compile(r"\b(begin training epoch|done training)\b")
MEMORY = re.compile(r"rank +\d+: capabilities = .* ; total memory = ([\d.]+) GB ; name = (.*)")


@dataclass
class Log:
    """Statistics over time.

    Attributes:
        values: by tag (`train_inner`, `train`, or a split's name) and statistic, the value at each
            update.
        gpus: name and memory in GiB of each GPU that the log names.
        done: whether the log says that training has ended.
    """

    values: dict[tuple[str, str], dict[int, float]] = field(default_factory=dict)
    gpus: list[tuple[str, float]] = field(default_factory=list)
    done: bool = False

    def add(self, tag: str, statistics: Mapping[str, float], updates: int) -> None:
        """Keep finite values; those of a resumed training replace earlier ones."""
        for name, value in statistics.items():
            if math.isfinite(value):
                self.values.setdefault((tag, name), {})[updates] = value

    def curve(self, tag: str, name: str) -> Curve:
        return sorted(self.values.get((tag, name), {}).items())

    @property
    def updates(self) -> int:
        """The last update that the log mentions."""
        return max((max(values) for values in self.values.values()), default=0)


def read_log(path: Path) -> Log:
    """Read what ``fairseq-train`` or ``fairseq-hydra-train`` printed or logged to a file; raise an
    :class:`InputError` if it cannot be read or holds no statistics."""
    log = Log()
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            for line in file:
                _read_line(line, log)
    except OSError as error:
        raise InputError(f"--log {path}: cannot be read: {error.strerror}") from None
    if not log.values:
        raise InputError(
            f"--log {path}: holds no statistics: expected the output or log file of fairseq-train "
            "or fairseq-hydra-train, with a --log-format other than none"
        )
    return log


def _read_line(line: str, log: Log) -> None:
    if gpu := MEMORY.search(line):
        log.gpus.append((gpu[2].strip(), float(gpu[1])))
    elif state := STATE.search(line):
        log.done = state[1].startswith("done")  # the output of a resumed training may follow
    else:
        tag, statistics = _json(line) if '{"epoch"' in line else _text(line)
        if "num_updates" in statistics:
            log.add(tag, statistics, int(statistics["num_updates"]))


def _text(line: str) -> tuple[str, dict[str, float]]:
    """Tag and statistics of a line `epoch 001: …, name=value` or `epoch 001 | … | name value`."""
    found = PROGRESS.search(line)
    if not found:
        return "", {}
    tag = "train_inner" if found["inner"] else found["split"] or "train"
    return tag, {name: float(value) for name, value in STATISTIC.findall(line, found.end())}


def _json(line: str) -> tuple[str, dict[str, float]]:
    """Tag and statistics of a line in JSON, where each name may begin with the tag."""
    try:
        values = json.loads(line[line.index('{"epoch"') :])
        prefix = next(n for n in values if n.endswith("num_updates")).removesuffix("num_updates")
        found = {n.removeprefix(prefix): float(v) for n, v in values.items() if v is not None}
    except (ValueError, TypeError, StopIteration, RecursionError):  # something else that was logged
        return "", {}
    return prefix.rstrip("_") or "train_inner", found
