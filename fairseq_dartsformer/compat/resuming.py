"""Where a training goes on: from a whole checkpoint, at the place where that was saved."""

from __future__ import annotations

import logging
import re
import zipfile
from argparse import Namespace
from collections.abc import Mapping
from functools import wraps
from pathlib import Path
from reprlib import repr as shown
from typing import Any

import torch
from fairseq import checkpoint_utils
from fairseq.distributed import utils as distributed_utils
from fairseq.file_io import PathManager
from fairseq.trainer import Trainer
from omegaconf import OmegaConf
from torch import Tensor

from ..errors import InputError
from .checkpoints import check_kind, compare_checksums
from .naming import naming

logger = logging.getLogger(__name__)

LAST = "checkpoint_last.pt"
# What fairseq writes beside it; not what is averaged or left behind by a crash.
OTHERS = re.compile(r"checkpoint(\d+|_\d+_\d+|_best|\.best_.+)\.pt")


def apply() -> None:
    """Put these workarounds in place."""
    checkpoint_utils.load_checkpoint = _resume_from_whole(
        _end_epoch(checkpoint_utils.load_checkpoint)
    )
    Trainer.load_checkpoint = _name_unfit(Trainer.load_checkpoint)


def _resume_from_whole(load):
    """Resume from a whole checkpoint if there is any.

    Symptoms: a damaged `checkpoint_last.pt` ends a training that older ones could go on from; where
    it or ``--restore-file`` is not there, the training silently begins anew. Cause: fairseq looks
    for one name, and takes no for an answer. Goes when it looks for more.
    """

    @wraps(load)
    def load_checkpoint(cfg, trainer, **arguments):
        found, error = None, None
        if trainer.data_parallel_rank == 0:
            try:
                found = _other_to_resume_from(cfg, trainer.checkpoint_suffix)
                _check_model(cfg, trainer, found)
            except InputError as bad:
                error = str(bad)
        if trainer.data_parallel_world_size > 1:
            found, error = distributed_utils.broadcast_object(
                (found, error), 0, trainer.data_parallel_process_group, trainer.device
            )
        if error is not None:
            raise InputError(error)
        if found is not None:
            cfg = OmegaConf.merge(cfg, {"restore_file": found, "finetune_from_model": None})
        return load(cfg, trainer, **arguments)

    return load_checkpoint


def _end_epoch(load):
    """Tell the schedule of the epoch that a checkpoint was saved at the end of.

    Symptom: resumed between epochs, a training has another learning rate, or another best loss in
    its schedule's state, than one never stopped. Cause: fairseq saves before the schedule is told
    the epoch's loss. Goes when it makes up for that.
    """

    @wraps(load)
    def load_checkpoint(cfg, trainer, **arguments):
        extra_state, iterator = load(cfg, trainer, **arguments)
        restored = trainer.get_num_updates() > 0 and not cfg.reset_lr_scheduler
        if restored and extra_state["train_iterator"]["iterations_in_epoch"] == 0:
            epoch = extra_state["train_iterator"]["epoch"]
            trainer.lr_step(epoch - 1, extra_state.get("val_loss"))
            trainer.lr_step(epoch)  # as fairseq's loading ends
        return extra_state, iterator

    return load_checkpoint


def _other_to_resume_from(cfg, suffix: str) -> str | None:
    """The checkpoint to resume from if it is not the one that fairseq would take.

    Args:
        cfg: fairseq's options of checkpoints.
        suffix: of a worker that has checkpoints of its own; these are fairseq's affair.

    Raises:
        InputError: no checkpoint is whole, or the one asked for is not there.
    """
    if suffix:
        return None
    if cfg.restore_file != LAST:
        if not PathManager.isfile(cfg.restore_file):
            raise InputError(f"--restore-file is {cfg.restore_file}: there is no such file")
        return None
    folder, damaged = Path(cfg.save_dir), []
    for path in _newest_first(folder):
        try:
            updates = _updates(path)
            with naming(f"checkpoint {path}"):
                compare_checksums(path)
        except InputError as error:
            damaged.append(str(error))
            continue
        if path.name == LAST:
            return None
        missing = [] if (folder / LAST).exists() else [f"there is no {LAST}"]
        logger.warning(
            f"{'; '.join(missing + damaged)}; so the training goes on from {path} of {updates} "
            "updates (to begin anew, give another --save-dir)"
        )
        return str(path)
    if damaged:
        raise InputError(
            f"--save-dir {folder} has no whole checkpoint to go on from (to begin anew, give "
            f"another): {'; '.join(damaged)}"
        )
    return None


def _check_model(cfg, trainer: Trainer, found: str | None) -> None:
    """Have a model of this plugin compare its options with those it is trained with so far.

    Symptom: with an option that changes no parameter's shape, such as --pooling or the order of a
    search's candidates, a training goes on as another network. Cause: fairseq compares shapes
    alone. Goes when it compares options.

    Args:
        cfg: fairseq's options of checkpoints.
        trainer: has the model and its options.
        found: the checkpoint to resume from, if it is not the one that fairseq would take.

    Raises:
        InputError: they are of different networks, or the checkpoint cannot be read.
    """
    check = getattr(trainer.get_model(), "check_options", None)
    usual = Path(cfg.save_dir, LAST) if cfg.restore_file == LAST else cfg.restore_file
    path = found or usual
    if check is None or cfg.reset_optimizer or not zipfile.is_zipfile(path):
        return  # of what is no archive, loading it will tell
    with naming(f"checkpoint {path}"):
        state = torch.load(path, map_location="cpu", mmap=True)
        if state.get("cfg") is not None:  # else of an old fairseq
            trained = state["cfg"]["model"]
            trained = vars(trained) if isinstance(trained, Namespace) else trained
            check(trainer.cfg.model, trained, str(path))


def _newest_first(folder: Path) -> list[Path]:
    """The last checkpoint, then the others by their updates, the unreadable at the end."""
    updates = {}
    for path in folder.glob("checkpoint*.pt"):
        if OTHERS.fullmatch(path.name):
            try:
                updates[path] = _updates(path)
            except InputError:
                updates[path] = -1
    last = [path for path in [folder / LAST] if path.is_file()]
    return last + sorted(updates, key=updates.__getitem__, reverse=True)


def _updates(path: Path) -> int:
    """How many updates a checkpoint has, without its tensors being read.

    Raises:
        InputError: it is damaged, or none.
    """
    with naming(f"checkpoint {path}"):
        check_kind(path)
        state = torch.load(path, map_location="cpu", mmap=True)
        return int(state["optimizer_history"][-1]["num_updates"])


def _name_unfit(load):
    """Name the file that a training cannot go on from.

    Symptom: a checkpoint that is whole, with a value that is not as fairseq writes it, ends in a
    traceback, perhaps when the next one is to be saved. Goes when fairseq checks what it reads.
    """

    @wraps(load)
    def load_checkpoint(self: Trainer, filename: str, *args, **kwargs):
        with naming(f"checkpoint {filename}"):
            extra_state = load(self, filename, *args, **kwargs)
            if extra_state is not None:
                _check_progress(extra_state)
            return extra_state

    return load_checkpoint


def _check_progress(extra_state: Mapping[str, Any]) -> None:
    """Raise a :class:`ValueError` if what the next checkpoint's values follow from is no number."""
    for name in ("previous_training_time", "best", "val_loss"):
        value = extra_state.get(name)
        one = isinstance(value, Tensor) and value.numel() == 1  # the time, of several workers
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not (value is None or one or number):
            raise ValueError(f"extra_state's {name} is {shown(value)}, not a number")
    place = extra_state["train_iterator"]
    for name, least in (("epoch", 1), ("iterations_in_epoch", 0)):
        if type(place[name]) is not int or place[name] < least:
            raise ValueError(f"train_iterator's {name} is {shown(place[name])}")
