"""Seeds that let a recomputation draw the dropout masks of the forward pass.

Each ``G_k`` draws from generators seeded for it, so that what must be kept is one number a pass
and not the generators' states, which on a CPU take five kilobytes each. The generators themselves
are left as they were.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


def draw_seed() -> int:
    """A seed from the global generator of the CPU."""
    return int(torch.randint(2**62, ()))


@contextmanager
def preserved_generators(device: torch.device) -> Iterator[None]:
    """Leave the generators that operations on ``device`` draw from as they were found."""
    on_cpu = torch.get_rng_state()
    on_gpu = torch.cuda.get_rng_state(device) if device.type == "cuda" else None
    try:
        yield
    finally:
        torch.set_rng_state(on_cpu)
        if on_gpu is not None:
            torch.cuda.set_rng_state(on_gpu, device)


def seed_generators(seed: int, device: torch.device) -> None:
    """Seed the generators that operations on ``device`` draw from."""
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        index = torch.cuda.current_device() if device.index is None else device.index
        torch.cuda.default_generators[index].manual_seed(seed)
