"""`single_level`: weights and alpha are trained together on all the data."""

from .alpha_strategy import JointStrategy


class SingleLevel(JointStrategy):
    """Every update moves weights and alpha by the gradients of one training batch.

    Liu et al. (2019) compare DARTS with it; no data are held out for alpha.
    """

    name = "single_level"
