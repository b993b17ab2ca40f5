"""Gradients of both ways of backpropagation, and their comparison."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from helpers.models import batch, coders, logits


def gradients(
    model: nn.Module, backprop: str, passes: int = 1, autocast: torch.dtype | None = None
) -> dict[str, Tensor]:
    """Gradients of one backward pass after ``passes`` forward passes, always with the same masks.

    ``autocast`` applies to the forward passes.
    """
    for coder in coders(model):
        coder.stack.backprop = backprop
    model.zero_grad()
    torch.manual_seed(3)
    loss = 0
    for i in range(passes):
        # Lengths differ, so that source and target have padding.
        with torch.autocast("cpu", dtype=autocast, enabled=autocast is not None):
            out = logits(model, batch([3, 9, 6], seed=i))
        loss = loss + (out * torch.linspace(-1, 1, out.size(-1))).pow(2).mean()
    state = torch.get_rng_state()
    loss.backward()
    assert torch.equal(state, torch.get_rng_state()), "backward moved the global random state"
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def assert_same_gradients(stored: dict, reconstructed: dict) -> None:
    """1e-9 of each tensor's largest, or 1e-15 of the model's where it is zero exactly."""
    assert stored.keys() == reconstructed.keys()
    largest = max(g.abs().max() for g in stored.values())
    for name, expected in stored.items():
        difference = (reconstructed[name] - expected).abs().max()
        bound = max(1e-9 * expected.abs().max(), 1e-15 * largest)
        assert difference <= bound, f"{name}: {difference:.3g} > {bound:.3g}"
