"""The n-split reversible network: coupling (Eq. 3, 4) and backpropagation (Algorithm 1).

Nothing here knows an operation, an alpha or fairseq: a layer couples the splits of a tensor through
functions ``G_k``, each a pooling followed by a weighted sum of branches.
"""

from .backprop import reconstructing_forward
from .coupling import POOLINGS, ReversibleLayer, ReversibleStack, node_output

__all__ = [
    "POOLINGS",
    "ReversibleLayer",
    "ReversibleStack",
    "node_output",
    "reconstructing_forward",
]
