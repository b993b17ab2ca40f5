"""`snas`: stochastic search by the concrete distribution (Xie et al. 2019, arXiv:1812.09926)."""

from .alpha_strategy import JointStrategy
from .sampling_mixins import GumbelSample


class SNAS(GumbelSample, JointStrategy):
    """All candidates run, mixed by a sample of the concrete distribution.

    Weights and alpha move by the same batch. The temperature falls linearly over the search. Unlike
    the authors' code, all batches of an update share the sample.
    """

    name = "snas"
    options = (*JointStrategy.options, "arch_temperature")
    temperatures = (1.0, 0.03)  # as in the authors' code
