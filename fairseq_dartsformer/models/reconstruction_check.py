"""``--check-reconstruction``: compares the reconstructed input of a stack with the true input."""

import logging
from functools import cache, partial
from typing import Any, NamedTuple

import torch
from fairseq.logging import metrics
from torch import Tensor

from ..reversible import ReversibleStack
from ..reversible.coupling import Mixtures

logger = logging.getLogger(__name__)

# Relative to the input's root mean square. A reconstruction that repeats the arithmetic of the
# forward pass is exact to 1e-7; at 1e-3, gradients are wrong in their third digit.
BOUND = 1e-3
# Layers of a stack up to which --operation-norm pre was harmless: the relative error of gradients
# by reconstruction was 4e-7; with 16 layers it was up to 5e-3, with 24 0.3 (docs/method.md).
PRE_LAYERS = 14


@cache
def warn_of_growth(layers: int) -> None:
    """Log, once, that a stack of so many layers with ``--operation-norm pre`` is too deep for
    reconstruction, if it is."""
    if layers > PRE_LAYERS:
        logger.warning(
            f"--operation-norm pre makes the stream grow in every layer: with {layers} layers, more"
            f" than {PRE_LAYERS}, gradients by reconstruction may be wrong. Use --operation-norm "
            "pre-bare, or --backprop store"
        )


class MonitoredStack(ReversibleStack):
    """Compares the reconstructed input of its first layer with the true input every N updates.

    Logs `reconstruction_error_STACK`: the root mean square of the difference, relative to that of
    the input.

    Args:
        name: the stack's name in the log.
        every: N, or 0 for never. The next update, which in a search is of the other level, is
            checked as well.
        arguments: those of :class:`ReversibleStack`.
    """

    def __init__(self, name: str, every: int, *arguments: Any):
        super().__init__(*arguments)
        self.name, self.every = name, every
        self.updates = 0

    def forward(self, x: Tensor, mixtures: Mixtures, context: NamedTuple, **state: Any) -> Tensor:
        """Run the layers, see :meth:`ReversibleStack.forward`."""
        return super().forward(x, mixtures, context, self._leaf(x), **state)

    def set_num_updates(self, updates: int) -> None:
        """Called by fairseq with the number of updates so far."""
        self.updates = updates

    def _leaf(self, x: Tensor) -> Tensor | None:
        """If this update is checked, return a leaf whose gradient will be the reconstruction."""
        if not (self.every and self.training and self.updates % self.every < 2):
            return None
        leaf = x.new_zeros(()).expand(x.shape).requires_grad_()
        leaf.register_hook(partial(self._compare, x.detach()))
        return leaf

    @torch.no_grad()
    def _compare(self, x: Tensor, rebuilt: Tensor) -> None:
        error = float((rebuilt - x).square().mean().sqrt() / x.square().mean().sqrt())
        metrics.log_scalar(f"reconstruction_error_{self.name}", error, round=9)
        if not error <= BOUND:
            logger.warning(
                f"the {self.name}'s input was reconstructed with a relative error of {error:.1e} "
                f"after {self.updates} updates, more than {BOUND:.0e}: its gradients are wrong. "
                "Use --backprop store, or kernels that give the same result twice "
                "(torch.use_deterministic_algorithms)"
            )
