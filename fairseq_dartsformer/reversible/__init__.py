"""The n-split reversible network: coupling (Eq. 3, 4) and backpropagation (Algorithm 1).

Nothing here knows an operation, an alpha or fairseq: a layer couples the splits of a tensor through
functions ``G_k``, each a pooling followed by a weighted sum of branches, or by one of them.
"""

from .backprop import reconstructing_forward
from .branches import Mixture, Mixtures, by_layer, node_output, running
from .coupling import POOLINGS, ReversibleLayer, ReversibleStack

__all__ = [
    "POOLINGS",
    "Mixture",
    "Mixtures",
    "ReversibleLayer",
    "ReversibleStack",
    "by_layer",
    "node_output",
    "reconstructing_forward",
    "running",
]
