"""Sums in twice the working precision, as unevaluated pairs of high and low parts.

A stream grows with depth, so `Y - G` in plain float32 loses the last digits of X, and what is lost
is amplified layer by layer: 1e-4 of X after 24 layers at initialisation. The low part keeps them.
Source: error-free addition of D. E. Knuth (The Art of Computer Programming 2, 4.2.2) and
T. J. Dekker (1971).
"""

from torch import Tensor


def accumulate(high: Tensor, low: Tensor, term: Tensor) -> tuple[Tensor, Tensor]:
    """`high + low + term` as a pair whose high part is the sum rounded to working precision."""
    total = high + term
    part = total - high
    error = (high - (total - part)) + (term - part)
    error += low
    rounded = total + error
    return rounded, error - (rounded - total)
