"""The monitor of a running search: alpha, its collapse, and numbers that are not finite."""

from __future__ import annotations

import logging
import math
from typing import Any

from omegaconf import DictConfig
from torch import nn

from ..errors import NotFiniteError
from ..search_space.genotype import Genotype
from .early_stopping import check_options, reason_to_stop, warning_of_skips
from .options import SearchOptions
from .snapshot import Snapshot, derive, snapshot_of
from .tensorboard import AlphaWriter

logger = logging.getLogger(__name__)


class Monitor:
    """Follows one search.

    Every ``--log-interval`` updates it takes a snapshot, where the strategy learns alpha: logs the
    genotype, writes to TensorBoard and Weights & Biases, warns of a collapse, and stops the search
    where one of the user's bounds is reached.

    Attributes:
        model_cfg: the supernet's options; set by the task when it builds the model.

    Args:
        cfg: the task's options.
        learns_alpha: whether alpha tells anything.

    Raises:
        InputError: an option is out of range.
    """

    def __init__(self, cfg: SearchOptions, learns_alpha: bool):
        check_options(cfg)
        self.cfg, self.learns_alpha = cfg, learns_alpha
        self.model_cfg: Any = None
        self.writer: AlphaWriter | None = None
        self.warned = False
        # The last snapshot: its update, its best operations, and since when these are the same.
        self.looked_at: int | None = None
        self.best: dict[str, str] | None = None
        self.since = 0

    def state_dict(self) -> dict[str, Any]:
        """What a resumed search has to know of the last snapshot."""
        if self.best is None:
            return {}
        return {"looked_at": self.looked_at, "best": self.best, "since": self.since}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what :meth:`state_dict` returned."""
        self.looked_at, self.best, self.since = state["looked_at"], state["best"], state["since"]

    def check_loss(self, loss: float) -> None:
        """Check the loss of an update; fairseq checks only the gradients.

        Raises:
            NotFiniteError: it is not finite.
        """
        if not math.isfinite(loss):
            raise NotFiniteError(f"the loss of an update is {loss}: resume from a checkpoint")

    def check_parameters(self, model: nn.Module) -> None:
        """Check all parameters, before they replace an older checkpoint's.

        Raises:
            NotFiniteError: one is not finite.
        """
        for name, parameter in model.named_parameters():
            if not parameter.isfinite().all():
                raise NotFiniteError(
                    f"{name} is not finite: the checkpoints of before are kept, and none is written"
                )

    def after_update(self, model: nn.Module, updates: int, first_worker: bool) -> str | None:
        """Take a snapshot if it is time.

        Args:
            model: the supernet.
            updates: number of updates, the last one included.
            first_worker: whether this worker logs.

        Returns:
            why the search should stop, or ``None``; it follows from alpha, so that all workers
            agree.

        Raises:
            InputError: alpha is not finite.
        """
        due = updates % self.cfg.log_interval == 0 and updates != self.looked_at
        if not (self.learns_alpha and due):
            return None
        snapshot = self._snapshot(model, updates)
        best = snapshot.best
        changed = [node for node in best if self.best and self.best.get(node) != best[node]]
        new = self.best is None or bool(changed)
        if new:
            self.since = updates
        if first_worker:
            self._log(snapshot, len(changed), new)
        self.looked_at, self.best = updates, best
        reason = reason_to_stop(self.cfg, snapshot, updates - self.since)
        if reason is not None and first_worker:
            logger.info(f"stopping the search: {reason}")
        return reason

    def _snapshot(self, model: nn.Module, updates: int) -> Snapshot:
        state = {
            "cfg": {"model": self.model_cfg, "task": self.cfg},
            "model": {f"{stack}.alpha": getattr(model, stack).alpha for stack in STACKS},
            "optimizer_history": [{"num_updates": updates}],
        }
        return snapshot_of(state, "the running search")

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
        self.warned = warning is not None  # once each time that the bound is passed


STACKS = ("encoder", "decoder")


def in_one_line(genotype: Genotype) -> str:
    """A genotype for the log: the layers of a block separated by slashes."""
    blocks = (
        f"{stack} {' / '.join(' '.join(layer) for layer in getattr(genotype, stack))}"
        for stack in STACKS
    )
    return ", ".join(blocks)


def stop_training(cfg: Any, updates: int) -> None:
    """Let fairseq's training end after this update, as it ends at ``--max-update``: it validates
    and saves.

    Args:
        cfg: any part of fairseq's configuration.
        updates: number of updates so far.
    """
    root = cfg._get_root()
    if isinstance(root, DictConfig) and "optimization" in root:
        root.optimization.max_update = updates
