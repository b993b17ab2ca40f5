"""Gradients of small models on a GPU."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from helpers.models import batch


def gradients_on_gpu(
    model: nn.Module, backprop: str | None, autocast: torch.dtype | None = None
) -> dict[str, Tensor]:
    """Gradients by parameter name, in float32, of a fixed batch and a fixed seed.

    Args:
        model: on a GPU.
        backprop: ``"store"`` or ``"reconstruct"``; ``None`` leaves the stacks' own.
        autocast: dtype of autocast in the forward pass.

    Raises:
        AssertionError: the backward pass changed the GPU's random state.
    """
    if backprop is not None:
        for stack in (model.encoder.stack, model.decoder.stack):
            stack.backprop = backprop
    model.zero_grad()
    torch.manual_seed(3)
    with torch.autocast("cuda", dtype=autocast, enabled=autocast is not None):
        net = {name: tensor.cuda() for name, tensor in batch([3, 9, 6]).items()}
        loss = model(**net)[0].float().pow(2).mean()
    state = torch.cuda.get_rng_state()
    loss.backward()
    assert torch.equal(state, torch.cuda.get_rng_state())
    return {name: p.grad.float() for name, p in model.named_parameters() if p.grad is not None}


def relative_difference(found: dict[str, Tensor], expected: dict[str, Tensor]) -> float:
    """Norm of the difference of all gradients over the norm of the expected ones."""
    difference = sum((found[name] - expected[name]).pow(2).sum() for name in expected)
    return (difference / sum(g.pow(2).sum() for g in expected.values())).sqrt().item()
