"""Peak memory on the CPU, counted by torch's own allocator events."""

from collections.abc import Callable

from torch.profiler import ProfilerActivity, profile


def peak_memory(step: Callable[[], None]) -> int:
    """Bytes that ``step`` holds at most beyond what was held before it."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        step()
    held = peak = 0
    for event in recorded.profiler.kineto_results.events():
        if event.name() == "[memory]":
            held += event.nbytes()
            peak = max(peak, held)
    return peak
