"""The n-split reversible network: coupling (Eq. 3, 4) and backpropagation (Algorithm 1).

A layer couples the splits of a tensor through functions ``G_k``: a pooling, then a node. This
package knows neither operations nor alpha nor fairseq.
"""

from .backprop import reconstructing_forward
from .coupling import POOLINGS, ReversibleLayer
from .stack import BACKPROPS, ReversibleStack, Stack

__all__ = [
    "BACKPROPS",
    "POOLINGS",
    "ReversibleLayer",
    "ReversibleStack",
    "Stack",
    "reconstructing_forward",
]
