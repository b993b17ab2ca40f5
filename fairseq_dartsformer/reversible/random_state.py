"""Random states that let a recomputation draw the dropout masks of the forward pass."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

RandomState = tuple[Tensor, Tensor | None]


def random_state(device: torch.device) -> RandomState:
    """The state of the generators that operations on ``device`` draw from: CPU, and its own."""
    on_gpu = torch.cuda.get_rng_state(device) if device.type == "cuda" else None
    return torch.get_rng_state(), on_gpu


def set_random_state(state: RandomState, device: torch.device) -> None:
    """Put the generators into a state that :func:`random_state` returned."""
    on_cpu, on_gpu = state
    torch.set_rng_state(on_cpu)
    if on_gpu is not None:
        torch.cuda.set_rng_state(on_gpu, device)


@contextmanager
def preserved_random_state(device: torch.device) -> Iterator[None]:
    """Leave the generators as they were found."""
    state = random_state(device)
    try:
        yield
    finally:
        set_random_state(state, device)
