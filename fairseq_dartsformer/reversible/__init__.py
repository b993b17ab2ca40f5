"""The n-split reversible network: coupling (Eq. 3, 4) and backpropagation (Algorithm 1).

Nothing here knows an operation, an alpha or fairseq: a layer couples the splits of a tensor through
functions ``G_k``, each a pooling followed by a node.
"""

from .backprop import reconstructing_forward
from .coupling import POOLINGS, ReversibleLayer
from .stack import BACKPROPS, ReversibleStack

__all__ = [
    "BACKPROPS",
    "POOLINGS",
    "ReversibleLayer",
    "ReversibleStack",
    "reconstructing_forward",
]
