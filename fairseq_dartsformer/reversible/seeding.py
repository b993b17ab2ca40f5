"""Seeds with which a recomputation draws the dropout masks of the forward pass.

Each ``G_k`` draws from generators seeded for it. Keeping one seed per pass replaces keeping the
generators' states, which take five kilobytes each on a CPU.
"""

from __future__ import annotations

from contextlib import AbstractContextManager

import torch


def draw_seed() -> int:
    """Draw a seed from the CPU's global generator."""
    return int(torch.randint(2**62, ()))


def preserved_generators(device: torch.device) -> AbstractContextManager[None]:
    """Restore the global generators of the CPU and of ``device`` on exit."""
    return torch.random.fork_rng([device] if device.type == "cuda" else [])


def seed_generators(seed: int, device: torch.device) -> None:
    """Seed the generators from which operations on ``device`` draw."""
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        index = torch.cuda.current_device() if device.index is None else device.index
        torch.cuda.default_generators[index].manual_seed(seed)
