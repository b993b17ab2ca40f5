"""What is done about a search that runs, update by update."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fairseq import checkpoint_utils
from fairseq.trainer import Trainer

from ..errors import NotFiniteError
from ..levels import WEIGHTS
from ..search_result import SearchResult
from .board import Board
from .collapse import check_options, reason_to_stop, warning_of_skips
from .finite import Places, all_finite, in_parameters, in_passes
from .outlook import Outlook, in_a_line, running_search

if TYPE_CHECKING:
    from ..tasks.translation_search import TranslationSearchConfig

logger = logging.getLogger(__package__)


@dataclass(frozen=True)
class Place:
    """A place in the training data; stands for their iterator where fairseq saves one."""

    state: dict[str, Any]

    @property
    def epoch(self) -> int:
        return self.state["epoch"]

    def end_of_epoch(self) -> bool:
        return False

    def state_dict(self) -> dict[str, Any]:
        return self.state


class SearchWatch:
    """Watches one search.

    Every ``--log-interval`` updates it looks at alpha, where the strategy learns that: logs the
    genotype, writes to TensorBoard and Weights & Biases, warns of a collapse, and stops the search
    where a bound of the user's is reached. Every update it stops the search at a number that is not
    finite.

    Attributes:
        data: gives the iterator over the training data; set by the task.

    Args:
        cfg: the task's options.
        learns_alpha: whether there is anything to see in alpha.

    Raises:
        InputError: an option is out of range.
    """

    def __init__(self, cfg: TranslationSearchConfig, learns_alpha: bool):
        check_options(cfg)
        self.cfg, self.learns_alpha = cfg, learns_alpha
        self.data: Any = None
        self.space: SearchResult | None = None  # for its names: alpha goes on
        self.place: Place | None = None  # after the last update of this process
        self.board: Board | None = None
        self.warned = False
        # Of the last look: when it was, the best operations, and since when these are the same.
        self.looked_at: int | None = None
        self.best: dict[str, str] | None = None
        self.since = 0

    def state_dict(self) -> dict[str, Any]:
        """What a resumed search has to know of the last look."""
        if self.best is None:
            return {}
        return {"looked_at": self.looked_at, "best": self.best, "since": self.since}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from the look that ``state`` tells of."""
        self.looked_at, self.best, self.since = state["looked_at"], state["best"], state["since"]

    def update(
        self, trainer: Trainer, samples: Sequence[Any], step: Callable[[], dict[str, Any] | None]
    ) -> dict[str, Any] | None:
        """Have one update made.

        Args:
            trainer: fairseq's.
            samples: the update's batches.
            step: makes it, and returns its log, or nothing when half precision skipped it.

        Raises:
            NotFiniteError: a number is not finite, and no overflow of half precision.
        """
        if self.space is None:
            self.space = running_search(trainer)
        before = trainer.get_num_updates()
        try:
            log = step()
        except NotFiniteError:  # --amp tries a skipped update again, within itself
            raise
        except FloatingPointError as error:
            raise self._stopped(trainer, before + 1, self._find(trainer, samples, error)) from error
        self.place = Place(self.data.state_dict())
        updates = trainer.get_num_updates()
        if updates > before:
            self._check_update(trainer, updates, log)
            looking = self.learns_alpha and updates % trainer.cfg.common.log_interval == 0
            if looking and updates != self.looked_at:
                self._look(trainer)
        return log

    def check_finite(self, trainer: Trainer) -> None:
        """Check all parameters, before they are saved.

        Raises:
            NotFiniteError: one is not finite.
        """
        if not all_finite(trainer.get_model()):
            where = in_parameters(self._places(trainer))
            raise self._stopped(trainer, trainer.get_num_updates(), f"{where} is not finite")

    def _check_update(self, trainer: Trainer, updates: int, log: dict[str, Any]) -> None:
        """Check the loss of an update, which fairseq does not, and the alpha that it led to.

        fairseq checks the gradients, so that no finite weight becomes anything else but by an
        absurd learning rate; :meth:`check_finite` sees that before it is saved.
        """
        model = trainer.get_model()
        if not math.isfinite(log["loss"]):
            raise self._stopped(trainer, updates, f"its loss is {float(log['loss'])}")
        if not all(bool(side.alpha.isfinite().all()) for side in (model.encoder, model.decoder)):
            self.check_finite(trainer)

    def _find(self, trainer: Trainer, samples: Sequence[Any], error: FloatingPointError) -> str:
        """What was not finite in an update that fairseq gave up before it changed anything."""

        def passes() -> None:
            trainer._set_seed()  # the same dropout
            trainer.zero_grad()
            for sample in samples:
                sample, dummy = trainer._prepare_sample(sample)
                # Without the wrapper of workers, some of which may be at another point by now.
                trainer.task.train_step(
                    sample,
                    trainer.get_model(),
                    trainer.get_criterion(),
                    trainer.optimizer,
                    trainer.get_num_updates(),
                    ignore_grad=dummy,
                )

        places = self._places(trainer)
        where = in_parameters(places) or in_passes(places, passes)
        what = f"{where} is not finite" if where else "all that this worker computed is finite"
        return f"{what} ({str(error).partition(chr(10))[0]})"

    def _stopped(self, trainer: Trainer, update: int, what: str) -> NotFiniteError:
        """Save the search, if it is worth it, and return what is to be raised."""
        level = getattr(trainer.optimizer.optimizer, "level", WEIGHTS)
        message = f"update {update}, of {level}, stopped the search: {what}"
        if self.place is None or not all_finite(trainer.get_model()):
            folder = trainer.cfg.checkpoint.save_dir
            return NotFiniteError(f"{message}; {folder} was left as it is")
        path = checkpoint_utils.save_checkpoint(trainer.cfg.checkpoint, trainer, self.place, None)
        if path is None:  # another worker saves, or --no-save
            return NotFiniteError(message)
        saved = f"the state after {trainer.get_num_updates()} updates was saved as {path}"
        return NotFiniteError(f"{message}; {saved}")

    def _places(self, trainer: Trainer) -> Places:
        return Places(trainer.get_model(), self.space)

    def _look(self, trainer: Trainer) -> None:
        """See what alpha says, and tell it; stop the search if a bound is reached."""
        outlook = Outlook.of(running_search(trainer))
        updates, changed = outlook.result.updates, outlook.changed(self.best)
        new = self.best is None or bool(changed)
        if new:
            self.since = updates
        reason = reason_to_stop(self.cfg, outlook, updates - self.since)
        if trainer.is_data_parallel_master:
            self._tell(trainer, outlook, len(changed), new)
            if reason is not None:
                logger.info(f"stopping the search: {reason}")
        if reason is not None:
            # fairseq looks here after every update, and ends as at its last: validates and saves.
            trainer.cfg.optimization.max_update = updates
        self.looked_at, self.best = updates, dict(outlook.best)

    def _tell(self, trainer: Trainer, outlook: Outlook, changed: int, new: bool) -> None:
        """Log a line, write to TensorBoard and Weights & Biases, and warn."""
        line = f"genotype after {outlook.result.updates} updates: {in_a_line(outlook.genotype)}"
        if self.best is not None:
            line += f"; {changed} of {len(outlook.best)} nodes changed since {self.looked_at}"
        logger.info(line)
        if self.board is None:
            self.board = Board(trainer.cfg.common)
        self.board.show(outlook, changed, new)
        warning = warning_of_skips(self.cfg, outlook)
        if warning is not None and not self.warned:
            logger.warning(warning)
        self.warned = warning is not None  # once, as often as the bound is passed
