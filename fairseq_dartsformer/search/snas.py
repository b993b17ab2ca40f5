"""`snas`: stochastic search by the concrete distribution (Xie et al. 2019, arXiv:1812.09926)."""

from ..search_space.relaxation import gumbel_softmax
from .alpha_strategy import JointStrategy, annealed

TEMPERATURES = (1.0, 0.03)  # first and last, as in the authors' code


class SNAS(JointStrategy):
    """All candidates run, mixed by a sample of the concrete distribution.

    Weights and alpha move by the same batch. The temperature falls linearly over the search. Unlike
    the authors' code, all batches of an update share the sample.
    """

    name = "snas"
    options = (*JointStrategy.options, "arch_temperature")

    def check(self) -> None:
        """Read the temperatures."""
        super().check()
        self.temperature = annealed(self, self.cfg.arch_temperature, TEMPERATURES)

    def sample(self, coder, update_num):
        """Mix by a sample."""
        return gumbel_softmax(coder.alpha, coder.mask, self.temperature(update_num))
