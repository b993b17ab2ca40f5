"""The monitor of a running search: its genotype, its collapse, and values that are not finite."""

from __future__ import annotations

import logging
import math
from typing import Any

from torch import nn

from ..errors import NotFiniteError
from ..search_space.genotype import Genotype
from .early_stopping import check_options, reason_to_stop, warning_of_skips
from .options import SearchOptions
from .snapshot import Snapshot, derive, take_snapshot
from .tensorboard import AlphaWriter

logger = logging.getLogger(__name__)


class Monitor:
    """Follows one search.

    Every ``--log-interval`` updates it checks the parameters. If the strategy learns alpha, it also
    takes a snapshot: it logs the genotype, writes to TensorBoard and Weights & Biases, warns of a
    collapse, and stops the search at the user's bounds.

    Attributes:
        model_cfg: the supernet's options, set by the task when it builds the model.

    Args:
        cfg: the task's options.
        learns_alpha: whether a genotype can be derived from alpha.

    Raises:
        InputError: an option is out of range.
    """

    def __init__(self, cfg: SearchOptions, learns_alpha: bool):
        check_options(cfg)
        self.cfg, self.learns_alpha = cfg, learns_alpha
        self.model_cfg: Any = None
        self.writer: AlphaWriter | None = None
        self.warned = False
        # The last snapshot: its update, its best operations, and the update they last changed at.
        self.looked_at: int | None = None
        self.best: dict[str, str] | None = None
        self.since = 0

    def state_dict(self) -> dict[str, Any]:
        """Return the last snapshot's state, for a resumed search."""
        if self.best is None:
            return {}
        return {"looked_at": self.looked_at, "best": self.best, "since": self.since}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what :meth:`state_dict` returned."""
        self.looked_at, self.best, self.since = state["looked_at"], state["best"], state["since"]

    def check_loss(self, loss: float) -> None:
        """Check the loss of an update; fairseq checks only the gradients.

        Raises:
            NotFiniteError: the loss is not finite.
        """
        if not math.isfinite(loss):
            raise NotFiniteError(f"the loss of an update is {loss}: resume from a checkpoint")

    def check_parameters(self, model: nn.Module) -> None:
        """Check all parameters, so that no checkpoint is overwritten with invalid ones.

        Raises:
            NotFiniteError: a parameter is not finite.
        """
        for name, parameter in model.named_parameters():
            if not parameter.isfinite().all():
                raise NotFiniteError(f"{name} is not finite: resume from an earlier checkpoint")

    def after_update(self, model: nn.Module, updates: int, first_worker: bool) -> None:
        """Check the parameters and take a snapshot every ``--log-interval`` updates.

        Args:
            model: the supernet.
            updates: number of finished updates.
            first_worker: whether this worker logs.

        Raises:
            NotFiniteError: a parameter is not finite.
        """
        if updates % self.cfg.log_interval or updates == self.looked_at:
            return
        self.check_parameters(model)
        if not self.learns_alpha:
            return
        alpha = {"encoder": model.encoder.alpha, "decoder": model.decoder.alpha}
        strategy = self.cfg.search_strategy
        snapshot = take_snapshot(self.model_cfg, alpha, updates, strategy, "the running search")
        best, before = snapshot.best, self.best or {}
        changed = sum(node in before and before[node] != best[node] for node in best)
        new = changed > 0 or not before
        if new:
            self.since = updates
        if first_worker:
            self._log(snapshot, changed, new)
        self.looked_at, self.best = updates, best
        # All workers have the same alpha, and therefore stop together.
        if reason := reason_to_stop(self.cfg, snapshot, updates - self.since):
            if first_worker:
                logger.info(f"stopping the search: {reason}")
            stop_training(self.cfg, updates)

    def _log(self, snapshot: Snapshot, changed: int, new: bool) -> None:
        """Log a line, write to TensorBoard and Weights & Biases, and warn."""
        genotype = derive(snapshot)
        line = f"genotype after {snapshot.updates} updates: {in_one_line(genotype)}"
        if self.best is not None:
            line += f"; {changed} of {len(snapshot.best)} nodes changed since {self.looked_at}"
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
    blocks = {"encoder": genotype.encoder, "decoder": genotype.decoder}
    lines = {stack: " / ".join(map(" ".join, block)) for stack, block in blocks.items()}
    return ", ".join(f"{stack} {line}" for stack, line in lines.items())


def stop_training(cfg: Any, updates: int) -> None:
    """Make fairseq validate, save and end after this update, as at ``--max-update``.

    Args:
        cfg: any part of fairseq's configuration.
        updates: number of finished updates.
    """
    root = cfg._get_root()
    if "optimization" in root:
        root.optimization.max_update = updates
