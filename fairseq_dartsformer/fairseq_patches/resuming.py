"""Resume from a checkpoint that fits, at the place in the data where it was saved."""

import fcntl
import logging
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fairseq.distributed import utils as distributed_utils
from fairseq.trainer import Trainer
from omegaconf import DictConfig, OmegaConf

from ..errors import InputError
from .patch import patch
from .reading import peek, reading

logger = logging.getLogger(__name__)

LAST = "checkpoint_last.pt"
# A training's checkpoints: not averages, nor the file that fairseq writes at a crash.
RESUMABLE = re.compile(r"checkpoint(_last|\d+|_\d+_\d+|_best|\.best_.+)\.pt")


@patch("fairseq.checkpoint_utils:load_checkpoint", "lost")
def _checked_resume(
    load: Callable[..., tuple[Any, Any]], cfg: DictConfig, trainer: Trainer, **arguments: Any
) -> tuple[Any, Any]:
    """Symptom: two trainings in one folder overwrite each other's files; if ``checkpoint_last.pt``
    is damaged or missing, or a ``--restore-file`` is missing, a training stops or silently begins
    anew, although older checkpoints exist; a training resumes as another network of the same
    shapes, without its optimizer's state, or with sentences on the other level; a training resumed
    between epochs has another learning rate; with ``--reset-dataloader`` the task's state is lost.
    Cause: fairseq looks for one file, compares only shapes, saves before the schedule is given the
    epoch's loss, and restores the task's state with the place in the data. Can go when fairseq
    checks the checkpoint from which it resumes."""
    path = _on_first_worker(trainer, lambda: _prepare(cfg, trainer))
    begins = path in (None, cfg.finetune_from_model)
    if begins and hasattr(model := trainer.get_model(), "inherited_weights"):  # a derived one
        weights = _on_first_worker(trainer, lambda: model.inherited_weights(trainer.cfg))
        model.load_state_dict(weights, strict=False)
    if not begins and cfg.restore_file == LAST:
        cfg = OmegaConf.merge(cfg, {"restore_file": path, "finetune_from_model": None})
    extra_state, iterator = load(cfg, trainer, **arguments)
    place = None if begins else extra_state.get("train_iterator")
    if place is None:
        return extra_state, iterator
    if cfg.reset_dataloader:
        if hasattr(iterator, "check_data"):
            iterator.check_data(place)
        if hasattr(trainer.task, "set_checkpoint_dict") and not cfg.reset_optimizer:
            trainer.task.set_checkpoint_dict(extra_state.get(type(trainer.task).__name__, {}))
    restored = trainer.get_num_updates() > 0 and not cfg.reset_lr_scheduler
    if restored and place["iterations_in_epoch"] == 0:
        trainer.lr_step(place["epoch"] - 1, extra_state.get("val_loss"))
        trainer.lr_step(place["epoch"])  # as at the end of fairseq's function
    return extra_state, iterator


def _on_first_worker(trainer: Trainer, function: Callable[[], Any]) -> Any:
    """Return the first worker's result on all workers, or raise its :class:`InputError` on all."""
    try:
        result = function() if trainer.data_parallel_rank == 0 else None
    except InputError as error:
        result = error
    if trainer.data_parallel_world_size > 1:
        result = distributed_utils.broadcast_object(
            result, 0, trainer.data_parallel_process_group, trainer.device
        )
    if isinstance(result, InputError):
        raise result
    return result


def _prepare(cfg: DictConfig, trainer: Trainer) -> str | None:
    """Find and check the checkpoint from which to start, if there is any, and lock the folder."""
    if trainer.checkpoint_suffix:  # each worker has its own checkpoint
        return None
    if not cfg.no_save:
        _lock(Path(cfg.save_dir))
    if (path := _find_checkpoint(cfg)) is None:
        return None
    state = peek(path)
    check = getattr(trainer.get_model(), "check_options", None)  # of this plugin's models
    if check is not None and state.get("cfg") is not None:  # old versions of fairseq save none
        check(trainer.cfg.model, state["cfg"]["model"], path)
    resumes = path != cfg.finetune_from_model and not cfg.reset_optimizer
    if resumes and state.get("last_optimizer_state") is None:
        raise InputError(
            f"checkpoint {path} has no optimizer state (--no-save-optimizer-state): give "
            "--reset-optimizer to start from its weights with a new optimizer, at update 0"
        )
    return path


def _lock(folder: Path) -> None:
    """Lock a folder until this process ends, or raise an :class:`InputError` if another has it."""
    folder.mkdir(parents=True, exist_ok=True)
    file = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT)
    try:
        # Data loading processes, which may outlive a killed training, do not inherit this kind.
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        raise InputError(
            f"--save-dir {folder} is in use by another training: wait until it ends, or give "
            "another folder"
        ) from None
    except OSError:  # some network file systems have no locks
        logger.warning(f"{folder} cannot be locked: do not start a second training in it")


def _find_checkpoint(cfg: DictConfig) -> str | None:
    """The checkpoint from which to start, if there is any; a given file must exist."""
    given = None if cfg.restore_file == LAST else cfg.restore_file
    for option, path in (
        ("--restore-file", given),
        ("--continue-once", cfg.continue_once),
        ("--finetune-from-model", cfg.finetune_from_model),
    ):
        if path is not None and not Path(path).is_file():
            raise InputError(f"{option} is {path}: there is no such file")
    return given or _newest(Path(cfg.save_dir)) or cfg.continue_once or cfg.finetune_from_model


def _newest(folder: Path) -> str | None:
    """The last checkpoint; if it is missing or damaged, the undamaged one with most updates."""
    paths = [path for path in folder.glob("checkpoint*.pt") if RESUMABLE.fullmatch(path.name)]
    updates, reasons = {}, [] if (folder / LAST).exists() else [f"there is no {LAST}"]
    for path in sorted(paths, key=lambda path: path.name != LAST):
        try:
            with reading(str(path)):
                updates[path] = peek(str(path))["optimizer_history"][-1]["num_updates"]
        except InputError as error:
            reasons.append(str(error))
        else:
            if path.name == LAST:
                return str(path)
    if updates:
        newest = max(updates, key=updates.get)
        logger.warning(
            f"{'; '.join(reasons)}: resuming from {newest} after {updates[newest]} updates (to "
            "begin anew, give another --save-dir)"
        )
        return str(newest)
    if paths:
        raise InputError(
            f"all checkpoints in --save-dir {folder} are damaged (to begin anew, give another): "
            f"{'; '.join(reasons)}"
        )
    return None


@patch("fairseq.trainer:Trainer.get_valid_iterator", "wrong")
def _validate_apart(get: Callable[..., Any], self: Any, subset: str, apart: bool = False) -> Any:
    """Symptom: a training that also validates on its training split skips or repeats data. Cause:
    fairseq gives both the same iterator, which keeps one place. Can go when fairseq makes an
    iterator for each."""
    return get(self, subset, apart or subset == self.cfg.dataset.train_subset)


@patch("fairseq.data.iterators:EpochBatchIterator.state_dict", "wrong")
def _with_workers(state_dict: Callable[..., dict[str, Any]], self: Any) -> dict[str, Any]:
    """Symptom: ``load_state_dict`` cannot tell whether the number of workers has changed. Cause:
    fairseq does not save it. Can go when fairseq does."""
    return {**state_dict(self), "workers": self.num_shards}


@patch("fairseq.data.iterators:EpochBatchIterator.load_state_dict", "wrong")
def _count_for_workers(load: Callable[..., None], self: Any, state: dict[str, Any]) -> None:
    """Symptom: a training resumed within an epoch with another number of workers skips or repeats
    data. Cause: the place is counted in batches of one worker; the patch rounds it down to complete
    rounds of the present workers, so that no batch is skipped. Can go when fairseq saves a place
    that does not depend on the number of workers."""
    place, workers = state.get("iterations_in_epoch", 0), state.get("workers", self.num_shards)
    if place > 0 and workers != self.num_shards:
        if self.grouped_shuffling:
            raise InputError(
                f"the checkpoint was saved within an epoch of {workers} workers, now there are "
                f"{self.num_shards}, and --grouped-shuffling gives them another order: resume with "
                f"{workers}, or give --reset-dataloader to begin the epoch anew"
            )
        state = {**state, "iterations_in_epoch": place * workers // self.num_shards}
    load(self, state)
