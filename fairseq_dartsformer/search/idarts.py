"""`idarts`: a hypergradient by a Neumann series (Zhang et al. 2021, arXiv:2106.10784)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from torch import Tensor, nn

from ..search_space.levels import ALPHA, LEVELS, WEIGHTS, level_of
from .alpha_strategy import Batch, parameters_of
from .hypergradient import directional_derivative, neumann_series
from .options import at_least, read_option
from .own_gradients import OnDemandStrategy


class IDARTS(OnDemandStrategy):
    """alpha's gradient counts the change of the best weights with alpha.

    `∇ = ∂α L_val - ∂α∂θ L_train · s`, where `s = η sum_{k=0}^K (I - η H)^k ∂θ L_val` and H is the
    Hessian of L_train with respect to θ: two passes for each product, `2K + 3` passes for alpha.
    As in the authors' code, alpha moves once in ``--arch-interval`` updates of the weights, K is 2
    and one training batch serves all products. Differences:

    - η is an option, because the weights' optimizer is Adam;
    - the step is ``--neumann-radius`` / ‖v‖ for each product: theirs fits plain networks;
    - θ is restored from a copy: theirs keeps a trace of the validation gradient;
    - weights and alpha move together, both from the weights before the update.
    """

    name = "idarts"
    interval = 4
    options = (*OnDemandStrategy.options, "neumann_terms", "neumann_rate", "neumann_radius")

    def check(self) -> None:
        """Read the series."""
        super().check()
        cfg = self.cfg
        self.terms = at_least(cfg, "neumann_terms", 0, 2)
        self.rate = read_option(cfg, "neumann_rate", 0.01, lambda rate: rate > 0, "be positive")
        self.radius = read_option(cfg, "neumann_radius", 0.1, lambda r: r > 0, "be positive")

    def alpha_gradients(self, module, train, valid, update_num):
        """Return the gradients of the implicit function."""
        _, both = self.mean_loss(module, valid, LEVELS, update_num)
        levels = [level_of(p) for p in parameters_of(module, LEVELS)]
        direct = [g for g, level in zip(both, levels, strict=True) if level == ALPHA]
        vector = [g for g, level in zip(both, levels, strict=True) if level == WEIGHTS]
        product = partial(self.product, module, train, update_num)
        inverse = neumann_series(product, vector, self.terms, self.rate)
        mixed = product(inverse, ALPHA)
        return [d - m for d, m in zip(direct, mixed, strict=True)]

    def product(
        self,
        module: nn.Module,
        train: Sequence[Batch],
        update_num: int,
        direction: list[Tensor],
        level: str = WEIGHTS,
    ) -> list[Tensor]:
        """Return `∂level ∂θ L_train · direction`; the direction is shaped like θ."""

        def gradients():
            return self.mean_loss(module, train, (level,), update_num)[1]

        weights = parameters_of(module, (WEIGHTS,))
        return directional_derivative(gradients, weights, direction, self.radius)
