"""`dsnas`: search by single candidates (Hu et al. 2020, arXiv:2002.09128)."""

from ..search_space.relaxation import score_function
from .alpha_strategy import JointStrategy
from .sampling_mixins import OneCandidate


class DSNAS(OneCandidate, JointStrategy):
    """One candidate runs in each node, drawn from `softmax(alpha)`.

    Weights and alpha move by the same batch; alpha by `∇ log p(z) <g, o_z(h)>`. Unlike the authors'
    code, no node stops early when its choice is certain.
    """

    name = "dsnas"

    def sample(self, coder, update_num):
        """Draw a candidate for every node."""
        return score_function(coder.alpha, coder.mask)
