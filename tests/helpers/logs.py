"""What a training logs: lines of JSON, and the events of TensorBoard."""

import json
import struct
from collections.abc import Iterator
from typing import Any

from tensorboardX.proto.event_pb2 import Event

LOGGING = "--max-update 12 --log-interval 4 --log-format json --no-save".split()


def lines(stdout: str) -> list[dict[str, float]]:
    """The numbers in the lines of `train_inner`."""
    marker = "| train_inner | "
    found = (line.partition(marker)[2] for line in stdout.splitlines() if marker in line)
    logs = map(json.loads, found)
    return [{k: float(v) for k, v in log.items() if v is not None} for log in logs]


def summaries(folder, run: str = "train_inner") -> Iterator[tuple[int, Any]]:
    """The values in the events of a run, each with its number of updates."""
    for path in sorted(folder.glob(f"{run}/events*")):  # a resumed training adds a file
        data, start = path.read_bytes(), 0
        while start < len(data):  # length, checksum, event, checksum
            (size,) = struct.unpack_from("<Q", data, start)
            event = Event.FromString(data[start + 12 : start + 12 + size])
            yield from ((event.step, value) for value in event.summary.value)
            start += size + 16


def scalars(folder, run: str = "train_inner") -> dict[str, list[float]]:
    """The scalars in the events of a run, by name."""
    found: dict[str, list[float]] = {}
    for _, value in summaries(folder, run):
        if value.WhichOneof("value") == "simple_value":
            found.setdefault(value.tag, []).append(value.simple_value)
    return found
