"""Progress, time, cost, speed and memory of a search in words."""

import math
from datetime import UTC, datetime
from statistics import mean, median

from .checkpoint_summary import number
from .run import Run, Search


def duration(seconds: float | None) -> str:
    """Format as ``40 s``, ``1 min 5 s``, ``12 min``, ``3 h 5 min`` or ``2 d 4 h``."""
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
    state = "finished" if search.progress == 1 else "not finished"
    return (
        f"A search by {search.snapshot.strategy}, {state}; its last checkpoint is of "
        f"{search.last.updates:,} updates, written on {written:%Y-%m-%d at %H:%M} UTC."
    )


def facts(search: Search) -> list[tuple[str, str, str]]:
    """Names, values and notes for the top of the page."""
    limit, speed = search.limits[0], search.seconds_an_update
    words = [value for _, value in search.log.curve("train_inner", "wps")]
    found = [
        ("updates", f"{search.updates:,}", f"of {limit:,}" if limit else ""),
        ("time", duration(search.last.seconds), "until the last checkpoint"),
        ("time left", *_time_left(search)),
        ("cost", *cost(search)),
        (
            "speed",
            "unknown" if speed is None else f"{speed:.3g} s an update",
            f"{median(words):,.0f} words a second" if words else "",
        ),
        ("memory", *_memory(search)),
        ("validation", *_validation(search)),
    ]
    if search.history:
        nodes = search.history.nodes
        entropy = mean(node.entropies[-1] for node in nodes)
        at_most = mean(math.log(len(node.weights)) for node in nodes)
        found.append(("mean entropy", f"{entropy:.3f}", f"of at most {at_most:.3f} nats"))
    return found


def _validation(search: Search) -> tuple[str, str]:
    losses = search.losses()["validation"]
    if not losses:
        return "none" if search.option("dataset", "disable_validation") else "unknown", ""
    updates, loss = losses[-1]
    perplexity = search.perplexity(loss, updates)
    return f"{loss:.3f}", "loss" if perplexity is None else f"loss, perplexity {perplexity:,.1f}"


def _time_left(search: Search) -> tuple[str, str]:
    if search.progress == 1:
        return "none", ""
    left = search.seconds_left
    if left is None:
        return "unknown", "needs --max-update or --stop-time-hours"
    return duration(left), "at the speed so far" if search.limits[0] else ""


def cost(run: Run) -> tuple[str, str]:
    """Hours of all workers, and the workers."""
    if run.last.seconds is None:
        return "unknown", ""
    workers = int(number(run.option("distributed_training", "distributed_world_size")) or 1)
    # On GPUs, fairseq logs their free memory.
    device = "GPU" if "gb_free" in run.last.meters else "CPU worker"
    if not run.last.meters and not run.option("common", "cpu"):
        device = "worker"
    unit, hours = device.removeprefix("CPU "), workers * run.last.seconds / 3600
    return f"{hours:.3g} {unit}-hours", f"{workers} {device}{'s' * (workers > 1)}"


def _memory(search: Search) -> tuple[str, str]:
    """Peak on the first worker's GPU, from the free memory that fairseq logs."""
    free = [value for _, value in search.log.curve("train_inner", "gb_free")]
    if not free:
        return "unknown", "fairseq logs it on GPUs only"
    if not search.log.gpus:
        return f"{min(free):.1f} GiB free", "at the peak"
    name, total = search.log.gpus[0]
    return f"{total - min(free):.1f} GiB", f"at the peak, of {total:.1f} on {name}"
