"""Where a training goes on: from a checkpoint that fits, at the place where it was saved."""

from __future__ import annotations

import logging
import re
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from fairseq.distributed import utils as distributed_utils
from fairseq.trainer import Trainer
from filelock import FileLock, Timeout
from omegaconf import DictConfig, OmegaConf

from ..errors import InputError
from .patch import Patch
from .reading import compare_checksums, reading

logger = logging.getLogger(__name__)

LAST = "checkpoint_last.pt"
# What fairseq writes beside it; not averages, or what a crash leaves.
OTHERS = re.compile(r"checkpoint(\d+|_\d+_\d+|_best|\.best_.+)\.pt")


def _checked_resume(load: Callable[..., tuple[Any, Any]]):
    """Symptoms: two trainings in one folder overwrite each other's files; where
    ``checkpoint_last.pt`` is damaged, or a ``--restore-file`` is not there, a training ends or
    silently begins anew, though older checkpoints are whole; it goes on as another network of the
    same shapes, without its optimizer's state, or with sentences on the other level; resumed
    between epochs it has another learning rate. Cause: fairseq looks for one file and compares
    shapes alone, and saves before the schedule is told an epoch's loss. Can go when fairseq checks
    what it resumes from."""

    def load_checkpoint(cfg: DictConfig, trainer: Trainer, **arguments: Any) -> tuple[Any, Any]:
        path = _on_first_worker(trainer, lambda: _prepare(cfg, trainer))
        older = path is not None and cfg.restore_file == LAST and Path(path).name != LAST
        if older and path != cfg.finetune_from_model:
            cfg = OmegaConf.merge(cfg, {"restore_file": path, "finetune_from_model": None})
        extra_state, iterator = load(cfg, trainer, **arguments)
        if path is None or path == cfg.finetune_from_model:
            return extra_state, iterator
        place = extra_state["train_iterator"]
        if cfg.reset_dataloader and hasattr(iterator, "check_data"):
            iterator.check_data(place)
        restored = trainer.get_num_updates() > 0 and not cfg.reset_lr_scheduler
        if restored and place["iterations_in_epoch"] == 0:
            trainer.lr_step(place["epoch"] - 1, extra_state.get("val_loss"))
            trainer.lr_step(place["epoch"])  # as fairseq's loading ends
        return extra_state, iterator

    return load_checkpoint


def _on_first_worker(trainer: Trainer, function: Callable[[], str | None]) -> str | None:
    """What the first worker finds; its :class:`InputError` is raised on all of them."""
    found, error = None, None
    if trainer.data_parallel_rank == 0:
        try:
            found = function()
        except InputError as bad:
            error = str(bad)
    if trainer.data_parallel_world_size > 1:
        found, error = distributed_utils.broadcast_object(
            (found, error), 0, trainer.data_parallel_process_group, trainer.device
        )
    if error is not None:
        raise InputError(error)
    return found


def _prepare(cfg: DictConfig, trainer: Trainer) -> str | None:
    """Lock the save folder, and find and check the checkpoint to go on from, if there is any."""
    if not cfg.no_save:
        trainer.save_dir_lock = _lock(Path(cfg.save_dir))
    if trainer.checkpoint_suffix:  # workers with checkpoints of their own are fairseq's affair
        return None
    path = _checkpoint(cfg)
    if path is not None:
        with reading(path):
            state = torch.load(path, map_location="cpu", mmap=True)
        _check_network(trainer, state, path)
        resumes = path != cfg.finetune_from_model and not cfg.reset_optimizer
        if resumes and state.get("last_optimizer_state") is None:
            raise InputError(
                f"checkpoint {path} has no optimizer state (--no-save-optimizer-state): give "
                "--reset-optimizer to go on with its weights and a new optimizer, from update 0"
            )
    return path


def _lock(folder: Path) -> FileLock | None:
    """Take the folder for this process; the system frees it when the process ends, however.

    Raises:
        InputError: another training has it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / ".lock", timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise InputError(
            f"--save-dir {folder} is in use by another training: wait for its end, or give another"
        ) from None
    except NotImplementedError:  # some network file systems
        logger.warning(f"{folder} cannot be locked: do not start a second training in it")
        return None
    return lock


def _checkpoint(cfg: DictConfig) -> str | None:
    """The checkpoint to go on from.

    Raises:
        InputError: the one that is asked for is not there, or none in the folder is whole.
    """
    for option, given in (
        ("--restore-file", None if cfg.restore_file == LAST else cfg.restore_file),
        ("--finetune-from-model", cfg.finetune_from_model),
    ):
        if given is not None and not Path(given).is_file():
            raise InputError(f"{option} is {given}: there is no such file")
    if cfg.restore_file != LAST:
        return cfg.restore_file
    folder, damaged = Path(cfg.save_dir), []
    for path in _newest_first(folder):
        try:
            with reading(str(path)):
                compare_checksums(str(path))
        except InputError as error:
            damaged.append(str(error))
            continue
        if path.name != LAST:
            reasons = damaged if (folder / LAST).exists() else [f"there is no {LAST}", *damaged]
            logger.warning(
                f"{'; '.join(reasons)}: the training goes on from {path} (to begin anew, give "
                "another --save-dir)"
            )
        return str(path)
    if damaged:
        raise InputError(
            f"--save-dir {folder} has no whole checkpoint to go on from (to begin anew, give "
            f"another): {'; '.join(damaged)}"
        )
    return cfg.finetune_from_model


def _newest_first(folder: Path) -> list[Path]:
    """The last checkpoint, then the others by their updates; the unreadable ones at the end."""

    def updates(path: Path) -> int:
        try:
            with reading(str(path)):
                state = torch.load(path, map_location="cpu", mmap=True)
                return int(state["optimizer_history"][-1]["num_updates"])
        except InputError:
            return -1

    others = [path for path in folder.glob("checkpoint*.pt") if OTHERS.fullmatch(path.name)]
    last = [path for path in [folder / LAST] if path.is_file()]
    return last + sorted(others, key=updates, reverse=True)


def _check_network(trainer: Trainer, state: dict[str, Any], path: str) -> None:
    """Have a model of this plugin compare its options with those of a checkpoint's network."""
    check = getattr(trainer.get_model(), "check_options", None)
    if check is not None and state.get("cfg") is not None:  # else of an old fairseq
        trained = state["cfg"]["model"]
        check(trainer.cfg.model, vars(trained) if isinstance(trained, Namespace) else trained, path)


def _with_workers(state_dict: Callable[[Any], dict[str, Any]]):
    """Saves the number of workers, which :func:`_count_for_workers` reads."""

    def with_workers(self) -> dict[str, Any]:
        return {**state_dict(self), "workers": self.num_shards}

    return with_workers


def _count_for_workers(load_state_dict: Callable[[Any, dict[str, Any]], None]):
    """Symptom: resumed within an epoch with another number of workers, a training skips data or
    sees them twice. Cause: the place is saved in batches of one worker. It is rounded down to
    complete rounds of the present workers, so that no batch is left out. Can go when fairseq saves
    a place that means the same to all."""

    def count_for_workers(self, state: dict[str, Any]) -> None:
        place, workers = state.get("iterations_in_epoch", 0), state.get("workers", self.num_shards)
        if place > 0 and workers != self.num_shards:
            if self.grouped_shuffling:
                raise InputError(
                    f"the checkpoint was saved within an epoch of {workers} workers, now there are "
                    f"{self.num_shards}, and --grouped-shuffling gives them another order: resume "
                    "with as many, or give --reset-dataloader to begin the epoch anew"
                )
            state = {**state, "iterations_in_epoch": place * workers // self.num_shards}
        load_state_dict(self, state)

    return count_for_workers


ITERATOR = "fairseq.data.iterators:EpochBatchIterator"
PATCHES = (
    Patch("fairseq.checkpoint_utils:load_checkpoint", "lost", _checked_resume),
    Patch(f"{ITERATOR}.state_dict", "wrong", _with_workers),
    Patch(f"{ITERATOR}.load_state_dict", "wrong", _count_for_workers),
)
