"""`drnas`: mixing weights from a Dirichlet distribution (Chen et al. 2021, arXiv:2006.10355)."""

from ..errors import InputError
from ..search_space.relaxation import dirichlet, dirichlet_mean
from .options import at_least
from .penalties import flat_dirichlet
from .pruning import prune, share_to_keep
from .split_strategy import SplitStrategy

PENALTY = 1e-3  # of the divergence from the flat distribution, as in the authors' code


class DrNAS(SplitStrategy):
    """All candidates run, mixed by a sample of Dirichlet(`elu(alpha) + 1`).

    A penalty keeps the distribution near the flat one. ``--prune-at`` prunes candidates while the
    search runs: the authors' progressive search, without the partial channels, which memory here
    does not need.
    """

    name = "drnas"
    options = (*SplitStrategy.options, "prune_at", "prune_keep")

    def check(self) -> None:
        """Read when to prune."""
        super().check()
        if not any(penalty is flat_dirichlet for _, penalty in self.penalties):
            self.penalties.append((PENALTY, flat_dirichlet))
        self.prune_at = at_least(self.cfg, "prune_at", 1)
        alone = self.cfg.search_strategy == self.name  # another one prunes before this one follows
        if alone and self.prune_at is None and self.cfg.prune_keep is not None:
            raise InputError(f"--prune-keep is {self.cfg.prune_keep}, which needs --prune-at")
        self.prune_keep = share_to_keep(self.cfg)

    @classmethod
    def relaxation(cls, cfg):
        """The distribution's expectation."""
        return dirichlet_mean

    def sample(self, coder, update_num):
        """Mix by a sample."""
        return dirichlet(coder.alpha, coder.mask)

    def after_update(self, model, optimizer, update_num):
        """Prune, once."""
        super().after_update(model, optimizer, update_num)
        if update_num == self.prune_at:
            prune(model, self.prune_keep, self.exclude)
