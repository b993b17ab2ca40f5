"""Reading checkpoints: without running code from them, and noticing damage."""

from __future__ import annotations

import logging
import os
import pickle
import re
import struct
import zipfile
import zlib
from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import Any

import numpy
import torch
from fairseq import checkpoint_utils
from fairseq.distributed import utils as distributed_utils
from fairseq.file_io import PathManager
from omegaconf import OmegaConf

from ..errors import InputError

logger = logging.getLogger(__name__)

LAST = "checkpoint_last.pt"
# What fairseq writes beside it; not what is averaged or left behind by a crash.
OTHERS = re.compile(r"checkpoint(\d+|_\d+_\d+|_best|\.best_.+)\.pt")


def apply() -> None:
    """Put these workarounds in place."""
    torch.serialization.add_safe_globals(_safe_globals())
    checkpoint_utils.load_checkpoint_to_cpu = _name_bad_file(
        checkpoint_utils.load_checkpoint_to_cpu
    )
    checkpoint_utils.load_checkpoint = _resume_from_whole(
        _end_epoch(checkpoint_utils.load_checkpoint)
    )


def load_checkpoint(path: str) -> dict[str, Any]:
    """A checkpoint's state, on the CPU; runs no code from it.

    Raises:
        InputError: the file is missing, damaged, or holds more than tensors and plain types.
    """
    return checkpoint_utils.load_checkpoint_to_cpu(path)


def _safe_globals() -> list[Any]:
    """What fairseq puts into checkpoints besides tensors and plain types.

    Symptom: ``WeightsUnpickler error: Unsupported global`` at resume and generation. Cause: torch
    2.6 and later load tensors and plain types alone, so that a checkpoint cannot run code. Allowing
    these few keeps it so. Goes when fairseq saves plain types.
    """
    array = numpy._core.multiarray if hasattr(numpy, "_core") else numpy.core.multiarray
    dtypes = {type(numpy.dtype(code)) for code in "?bBhHiIlLqQefdg"}
    return [Namespace, numpy.ndarray, numpy.dtype, array.scalar, array._reconstruct, *dtypes]


def _name_bad_file(load):
    """Turn a missing or damaged file's traceback into one line that names the file.

    Symptoms: a truncated checkpoint ends in ``PytorchStreamReader failed``, and one with a flipped
    bit is loaded as if nothing were wrong. Cause of the latter: torch writes checksums and does not
    compare them. Goes when fairseq says which file it could not read, and torch compares.
    """

    @wraps(load)
    def load_checkpoint_to_cpu(path: str, *args, **kwargs) -> dict[str, Any]:
        with _naming(path):
            if os.path.isfile(path):
                _compare_checksums(path)
            return load(path, *args, **kwargs)

    load_checkpoint_to_cpu.patched_by_dartsformer = True
    return load_checkpoint_to_cpu


@contextmanager
def _naming(path: str | Path) -> Iterator[None]:
    """Name the file in what goes wrong with it.

    Raises:
        InputError: anything did.
    """
    # What torch, pickle and zipfile were seen to raise on cut files and flipped bits, and fairseq
    # on files that are not its own.
    unreadable = (
        RuntimeError,
        EOFError,
        zipfile.BadZipFile,
        zlib.error,
        pickle.UnpicklingError,
        LookupError,
        TypeError,
        ValueError,
        AttributeError,
        struct.error,
    )
    try:
        yield
    except OSError as error:
        raise InputError(f"checkpoint {path} cannot be read: {error.strerror or error}") from error
    except unreadable as error:
        # torch goes on with advice that is of no use here.
        reason = re.split(r"\n|\. ", str(error))[0] or type(error).__name__
        raise InputError(
            f"checkpoint {path} is damaged, truncated, or not fairseq's: {reason}"
        ) from error


def _compare_checksums(path: str | Path) -> None:
    """Compare the contents of a file with the checksums in it.

    Raises:
        Exception: of many kinds; they differ.
    """
    if not zipfile.is_zipfile(path):
        return  # from before torch 1.6, or cut: loading it will tell
    with zipfile.ZipFile(path) as archive:
        damaged = archive.testzip()
    if damaged is not None:
        raise zipfile.BadZipFile(f"{damaged} does not have its checksum")


def _resume_from_whole(load):
    """Resume from a whole checkpoint if there is any.

    Symptoms: a damaged `checkpoint_last.pt` ends a training that older ones could go on from; where
    it or ``--restore-file`` is not there, the training silently begins anew. Cause: fairseq looks
    for one name, and takes no for an answer. Goes when it looks for more.
    """

    @wraps(load)
    def load_checkpoint(cfg, trainer, **arguments):
        if cfg.write_checkpoints_asynchronously:
            raise InputError(
                "--write-checkpoints-asynchronously (--save-async) must be left out: it writes no "
                f"{LAST}, and whoever is killed while writing is left with half a checkpoint"
            )
        found, error = None, None
        if trainer.data_parallel_rank == 0:
            try:
                found = _other_to_resume_from(cfg, trainer.checkpoint_suffix)
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
            with _naming(path):
                _compare_checksums(path)
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
    with _naming(path):
        state = torch.load(path, map_location="cpu", mmap=True)
        return int(state["optimizer_history"][-1]["num_updates"])
