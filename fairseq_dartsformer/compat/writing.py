"""Writing checkpoints: wholly or not at all, whenever the training or its machine stops."""

from __future__ import annotations

import os
import time
from functools import wraps
from typing import Any

import torch
from fairseq import checkpoint_utils
from fairseq.file_io import PathManager


def apply() -> None:
    """Put these workarounds in place."""
    checkpoint_utils._torch_persistent_save = _save_from_the_start
    PathManager.rename = staticmethod(_rename_written(PathManager.rename))
    PathManager.copy = staticmethod(_copy_whole(PathManager.copy))


def _save_from_the_start(obj: Any, file: Any) -> None:
    """Write a checkpoint anew where writing it failed.

    Symptom: after a write that failed for a moment, as on a full disk, the checkpoint and all of
    its copies are unreadable. Cause: fairseq tries again where the first attempt ended. Goes when
    it begins at the start.
    """
    for pause in (2.5, 2.5, None):  # seconds
        try:
            return torch.save(obj, file)
        except (OSError, RuntimeError):  # the latter is how torch reports the former
            if pause is None:
                raise
            time.sleep(pause)
            file.seek(0)
            file.truncate()


def _rename_written(rename):
    """Let a file take its place when it is on the disk.

    Symptom: a machine that fails leaves a checkpoint of zeros, and none of the one before. Cause:
    fairseq renames what the system has yet to write. Goes when it waits for that.
    """

    @wraps(rename)
    def rename_written(source: str, target: str) -> None:
        with open(source, "rb") as file:
            os.fsync(file.fileno())
        rename(source, target)

    return rename_written


def _copy_whole(copy):
    """Copy a checkpoint wholly or not at all.

    Symptom: a training killed at the wrong moment cannot go on: ``checkpoint_last.pt`` is cut
    short. Cause: fairseq writes a checkpoint beside its place and renames it, but not the copies
    that it makes of it. Goes when it does.
    """

    @wraps(copy)
    def copy_whole(src_path: str, dst_path: str, overwrite: bool = False):
        if not PathManager.supports_rename(dst_path):
            return copy(src_path, dst_path, overwrite=overwrite)
        copied = copy(src_path, f"{dst_path}.tmp", overwrite=True)
        PathManager.rename(f"{dst_path}.tmp", dst_path)
        return copied

    return copy_whole
