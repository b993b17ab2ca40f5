"""Seeds with which a recomputation draws the dropout masks of the forward pass.

Each ``G_k`` draws from generators seeded for it. Keeping one seed per pass replaces keeping the
generators' states, which take five kilobytes each on a CPU.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


def draw_seed() -> int:
    """Draw a seed from the CPU's global generator."""
    return int(torch.randint(2**62, ()))


@contextmanager
def preserved_generators(device: torch.device) -> Iterator[None]:
    """Restore the global generators of the CPU and of ``device`` on exit."""
    on_cpu = torch.get_rng_state()
    on_gpu = torch.cuda.get_rng_state(device) if device.type == "cuda" else None
    try:
        yield
    finally:
        torch.set_rng_state(on_cpu)
        if on_gpu is not None:
            torch.cuda.set_rng_state(on_gpu, device)


def seed_generators(seed: int, device: torch.device) -> None:
    """Seed the generators from which operations on ``device`` draw."""
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        index = torch.cuda.current_device() if device.index is None else device.index
        torch.cuda.default_generators[index].manual_seed(seed)
