"""Writing checkpoints: completely or not at all, whenever the training or its machine stops."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

import torch
from fairseq.file_io import PathManager

from .patch import Patch

PAUSES = (2.5, 2.5, None)  # seconds between attempts to write


def _save_from_start(save: Callable[..., None]):
    """Symptom: after a write that failed for a moment, as on a full disk, the checkpoint and all
    its copies are unreadable. Cause: fairseq tries again where the first attempt ended. Can go when
    it begins at the start."""

    def torch_persistent_save(obj: Any, file: Any) -> None:
        for pause in PAUSES:
            try:
                return torch.save(obj, file)
            except (OSError, RuntimeError):  # the latter is how torch reports the former
                if pause is None:
                    raise
                time.sleep(pause)
                file.seek(0)
                file.truncate()

    return torch_persistent_save


def _rename_written(rename: Callable[[str, str], None]):
    """Symptom: a machine that fails leaves a checkpoint of zeros, and none of the one before.
    Cause: fairseq renames a file before the system has written it. Can go when it waits."""

    def rename_written(source: str, target: str) -> None:
        with open(source, "rb") as file:
            os.fsync(file.fileno())
        rename(source, target)

    return rename_written


def _copy_complete(copy: Callable[..., bool | None]):
    """Symptom: a training killed at the wrong moment cannot go on: ``checkpoint_last.pt`` is cut
    short. Cause: fairseq writes a checkpoint beside its place and renames it, but not its copies.
    Can go when it does."""

    def copy_complete(src_path: str, dst_path: str, overwrite: bool = False) -> bool | None:
        if not PathManager.supports_rename(dst_path):
            return copy(src_path, dst_path, overwrite=overwrite)
        copied = copy(src_path, f"{dst_path}.tmp", overwrite=True)
        PathManager.rename(f"{dst_path}.tmp", dst_path)
        return copied

    return copy_complete


PATCHES = (
    Patch("fairseq.checkpoint_utils:_torch_persistent_save", "lost", _save_from_start),
    Patch("fairseq.file_io:PathManager.rename", "lost", _rename_written),
    Patch("fairseq.file_io:PathManager.copy", "lost", _copy_complete),
)
