"""The two levels of the search (Algorithm 2): the weights theta and the architecture alpha."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager

from torch import nn

from .alpha import is_alpha

#: The level of theta: all parameters but alpha.
WEIGHTS = "weights"
#: The level of the architecture.
ALPHA = "alpha"
#: Both.
LEVELS = (WEIGHTS, ALPHA)


def level_of(parameter: nn.Parameter) -> str:
    """The level that updates ``parameter``."""
    return ALPHA if is_alpha(parameter) else WEIGHTS


@contextmanager
def gradients_for(model: nn.Module, levels: Collection[str]) -> Iterator[None]:
    """Let only the parameters of ``levels`` take gradients, for a forward and backward pass.

    This saves about a quarter of an update's work. It must end before a half-precision optimizer
    acts, because that selects parameters by ``requires_grad``.
    """
    others = [p for p in model.parameters() if p.requires_grad and level_of(p) not in levels]
    for parameter in others:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in others:
            parameter.requires_grad_(True)
