"""How a search stands: progress, time, cost, speed and memory in words."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from statistics import median

from .run import Run, Search


def duration(seconds: float | None) -> str:
    """As one says it: ``40 s``, ``1 min 5 s``, ``12 min``, ``3 h 5 min``, ``2 d 4 h``."""
    if seconds is None:
        return "unknown"
    if round(seconds) < 60:
        return f"{seconds:.0f} s"
    if round(seconds) < 600:
        return "{} min {} s".format(*divmod(round(seconds), 60))
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes} min"
    return f"{hours // 24} d {hours % 24} h"


def summary(search: Search) -> str:
    written = datetime.fromtimestamp(search.last.written, UTC)
    state = "finished" if search.finished else "not finished"
    return (
        f"A search by {search.result.strategy}, {state}; its last checkpoint is of "
        f"{search.last.updates:,} updates, written on {written:%Y-%m-%d at %H:%M} UTC."
    )


def progress(search: Search) -> float | None:
    """The share of updates or hours that are done; ``None`` if there is no end."""
    if search.finished:
        return 1.0
    shares = []
    if search.max_update:
        shares.append(search.updates / search.max_update)
    if search.stop_hours and search.last.seconds is not None:
        shares.append(search.last.seconds / 3600 / search.stop_hours)
    return max(shares, default=None)


def facts(search: Search) -> list[tuple[str, str, str]]:
    """What to know at a glance: name, value and a note."""
    left = search.seconds_left
    speed = search.seconds_an_update
    words = [value for _, value in search.log.curve("train_inner", "wps")]
    last = search.losses()["validation"]
    none = "none" if search.option("dataset", "disable_validation") else "unknown"
    found = [
        (
            "updates",
            f"{search.updates:,}",
            f"of {search.max_update:,}" if search.max_update else "",
        ),
        ("time", duration(search.last.seconds), "until the last checkpoint"),
        ("time left", *_time_left(search, left)),
        ("cost", *cost(search)),
        (
            "speed",
            "unknown" if speed is None else f"{speed:.3g} s an update",
            f"{median(words):,.0f} words a second" if words else "",
        ),
        ("memory", *_memory(search)),
        ("validation", f"{last[-1][1]:.3f}" if last else none, "loss" if last else ""),
    ]
    if search.history:
        nodes = search.history.nodes
        entropy = sum(node.entropies[-1] for node in nodes) / len(nodes)
        at_most = sum(math.log(len(node.weights)) for node in nodes) / len(nodes)
        found.append(("mean entropy", f"{entropy:.3f}", f"of at most {at_most:.3f} nats"))
    return found


def _time_left(search: Search, left: float | None) -> tuple[str, str]:
    if search.finished:
        return "none", ""
    if left is None:
        return "unknown", "no --max-update or --stop-time-hours that it can be told by"
    return duration(left), "at the speed so far" if search.max_update else ""


def cost(run: Run) -> tuple[str, str]:
    """Hours of all workers."""
    if run.hours is None:
        return "unknown", ""
    device = {True: "GPU", False: "CPU worker", None: "worker"}[run.on_gpu]
    several = f"{run.workers} {device}{'s' * (run.workers > 1)}"
    return f"{run.hours:.3g} {'GPU' if run.on_gpu else 'worker'}-hours", several


def _memory(search: Search) -> tuple[str, str]:
    """The peak on the first worker's GPU, of which fairseq logs what it leaves free."""
    free = [value for _, value in search.log.curve("train_inner", "gb_free")]
    if not free:
        return "unknown", "fairseq logs it on GPUs"
    if not search.log.gpus:
        return f"{min(free):.1f} GiB free", "at the peak"
    name, total = search.log.gpus[0]
    return f"{total - min(free):.1f} GiB", f"at the peak, of {total:.1f} on {name}"
