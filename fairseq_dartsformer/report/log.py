"""What a training has logged: fairseq's lines on the terminal, or its TensorBoard events."""

from __future__ import annotations

import json
import math
import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from google.protobuf.message import DecodeError
from tensorboardX.proto.event_pb2 import Event

from ..errors import InputError

# Updates and value, in the order of the updates.
Curve = list[tuple[int, float]]

LINE = re.compile(r"\| INFO \| (\S+) \| (.*)")
# As fairseq prints them: between commas, `name=value`; between bars, `name value`.
STATISTIC = re.compile(r"(\w+)[= ]([-+]?(?:\d[\d.]*(?:e[-+]?\d+)?|nan|inf))(?=,| \||\s*$)", re.I)
MEMORY = re.compile(r"rank +\d+: capabilities = .* ; total memory = ([\d.]+) GB ; name = (.*)")


@dataclass
class Log:
    """Statistics over time.

    Attributes:
        values: by tag (`train_inner`, or the name of a split) and name, the value at each update.
        gpus: name and memory in GiB of each worker's GPU, as far as the log tells.
        done: whether the log says that the training has ended.
    """

    values: dict[tuple[str, str], dict[int, float]] = field(default_factory=dict)
    gpus: list[tuple[str, float]] = field(default_factory=list)
    done: bool = False

    def add(self, tag: str, statistics: Mapping[str, float], updates: int) -> None:
        """Keep what is finite; what a resumed training logs again counts."""
        for name, value in statistics.items():
            if math.isfinite(value):
                self.values.setdefault((tag, name), {})[updates] = value

    def curve(self, tag: str, name: str) -> Curve:
        return sorted(self.values.get((tag, name), {}).items())

    @property
    def updates(self) -> int:
        """The last update of which anything is known."""
        return max((max(values) for values in self.values.values()), default=0)


def read_log(path: Path) -> Log:
    """What ``fairseq-train`` printed, with ``--log-format simple`` or ``json``.

    Raises:
        InputError: it cannot be read, or says nothing.
    """
    log = Log()
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            for line in file:
                _read_line(line, log)
    except OSError as error:
        raise InputError(f"--log {path}: cannot be read: {error.strerror}") from None
    if not log.values:
        raise InputError(
            f"--log {path}: holds no statistics: expected the output of fairseq-train with "
            "--log-format simple or json"
        )
    return log


def _read_line(line: str, log: Log) -> None:
    found = LINE.search(line)
    if found is None:
        return
    tag, text = found.groups()
    gpu = MEMORY.match(text)
    if gpu:
        log.gpus.append((gpu[2].strip(), float(gpu[1])))
    elif text.startswith(("begin training", "done training")):
        log.done = text.startswith("done")  # another training's output may follow
    else:
        statistics = _statistics(tag, text)
        if "num_updates" in statistics:
            log.add(tag, statistics, int(statistics["num_updates"]))


def _statistics(tag: str, text: str) -> dict[str, float]:
    if not text.startswith("{"):
        return {name: float(value) for name, value in STATISTIC.findall(text)}
    try:
        pairs = json.loads(text).items()
        return {
            name.removeprefix(f"{tag}_"): float(value) for name, value in pairs if value is not None
        }
    except (ValueError, TypeError, RecursionError):  # another dictionary, as the configuration
        return {}


def read_events(folder: Path) -> Log:
    """The scalars of all TensorBoard events below a folder; of a damaged file, those before the
    damage."""
    log = Log()
    for path in sorted(folder.rglob("events.out.tfevents.*")):
        data, start = path.read_bytes(), 0
        while start + 12 <= len(data):  # length, checksum, event, checksum
            (size,) = struct.unpack_from("<Q", data, start)
            try:
                event = Event.FromString(data[start + 12 : start + 12 + size])
            except DecodeError:
                break
            for value in event.summary.value:
                if value.WhichOneof("value") == "simple_value":
                    log.add(path.parent.name, {value.tag: value.simple_value}, event.step)
            start += size + 16
    return log
