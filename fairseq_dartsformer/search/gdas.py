"""`gdas`: bilevel search by single candidates (Dong and Yang 2019, arXiv:1910.04465)."""

from ..search_space.relaxation import straight_through
from .options import SPLIT_OPTIONS
from .sampling_mixins import GumbelSample, OneCandidate
from .split_strategy import SplitStrategy


class GDAS(GumbelSample, OneCandidate, SplitStrategy):
    """One candidate runs in each node, the largest of a Gumbel-softmax sample.

    Its weight is 1, with the derivatives of the sample. The levels alternate as in `darts`. The
    temperature falls linearly over the search. Unlike the authors' code, the weights of the other
    candidates are not added to the output as numbers.
    """

    name = "gdas"
    options = (*OneCandidate.options, *SPLIT_OPTIONS, "arch_temperature")
    temperatures = (10.0, 0.1)  # as in the authors' code

    def sample(self, coder, update_num):
        """Draw a candidate for every node."""
        return straight_through(super().sample(coder, update_num))
