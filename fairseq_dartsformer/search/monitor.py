"""The monitor of a running search: its genotype, its collapse, and values that are not finite."""

from __future__ import annotations

import logging
import math
from typing import Any

from fairseq.distributed.utils import get_global_rank
from torch import nn

from ..errors import NotFiniteError
from ..search_space.genotype import Genotype
from .early_stopping import check_options, reason_to_stop, warning_of_skips
from .options import SearchOptions, stop_after
from .snapshot import Snapshot, take_snapshot
from .tensorboard import AlphaWriter

logger = logging.getLogger(__name__)


class Monitor:
    """Follows one search.

    Every ``--log-interval`` updates it checks the parameters. If the strategy learns alpha, it also
    takes a snapshot: it logs the genotype, writes to TensorBoard and Weights & Biases, warns of a
    collapse, and stops the search at the user's bounds.

    Args:
        cfg: the task's options.
        learns_alpha: whether a genotype can be derived from alpha.

    Raises:
        InputError: an option is out of range.
    """

    def __init__(self, cfg: SearchOptions, learns_alpha: bool):
        check_options(cfg)
        self.cfg, self.learns_alpha = cfg, learns_alpha
        self.model_cfg: Any = None  # the supernet's options, which the task sets
        self.writer: AlphaWriter | None = None
        self.warned = False
        # Of the last snapshot, for a resumed search: its update (`looked_at`), its best operations
        # (`best`), and the update at which they last changed (`since`).
        self.state: dict[str, Any] = {}

    def check_loss(self, loss: float) -> None:
        """Raise a :class:`NotFiniteError` if an update's loss is not finite; fairseq checks only
        gradients."""
        if not math.isfinite(loss):
            raise NotFiniteError(f"the loss of an update is {loss}: resume from a checkpoint")

    def check_parameters(self, model: nn.Module) -> None:
        """Raise a :class:`NotFiniteError` if a parameter is not finite, so that no checkpoint is
        overwritten with invalid ones."""
        for name, parameter in model.named_parameters():
            if not parameter.isfinite().all():
                raise NotFiniteError(f"{name} is not finite: resume from an earlier checkpoint")

    def after_update(self, model: nn.Module, updates: int) -> None:
        """Check the parameters and take a snapshot every ``--log-interval`` updates."""
        if updates % self.cfg.log_interval or updates == self.state.get("looked_at"):
            return
        self.check_parameters(model)
        if not self.learns_alpha:
            return
        snapshot = take_snapshot(
            self.model_cfg, self.cfg, model.state_dict(), updates, "the running search"
        )
        best, before = snapshot.best, self.state.get("best", {})
        changed = sum(node in before and before[node] != best[node] for node in best)
        new = changed > 0 or not before
        since = updates if new else self.state["since"]
        if get_global_rank() == 0:
            self._log(snapshot, changed, new)
        self.state = {"looked_at": updates, "best": best, "since": since}
        # All workers have the same alpha, and therefore stop together.
        if reason := reason_to_stop(self.cfg, snapshot, updates - since):
            stop_after(self.cfg, updates, reason)

    def _log(self, snapshot: Snapshot, changed: int, new: bool) -> None:
        """Log a line, write to TensorBoard and Weights & Biases, and warn."""
        genotype = snapshot.genotype(snapshot.best_choice(snapshot.exclude))
        line = f"genotype after {snapshot.updates} updates: {in_one_line(genotype)}"
        if self.state:
            line += f"; {changed} of {len(snapshot.best)} nodes changed since "
            line += str(self.state["looked_at"])
        logger.info(line)
        if self.writer is None:
            self.writer = AlphaWriter(self.cfg.tensorboard_logdir, bool(self.cfg.wandb_project))
        self.writer.write(snapshot, genotype, changed, new)
        warning = warning_of_skips(self.cfg, snapshot)
        if warning is not None and not self.warned:
            logger.warning(warning)
        self.warned = warning is not None  # warn once each time the bound is passed


def in_one_line(genotype: Genotype) -> str:
    """Format a genotype for the log, the layers of a block separated by slashes."""
    blocks = genotype.blocks.items()
    return ", ".join(f"{stack} {' / '.join(map(' '.join, block))}" for stack, block in blocks)
