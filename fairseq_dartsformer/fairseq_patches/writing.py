"""Write checkpoints completely or not at all, whenever the training or its machine stops."""

import os
import time
from collections.abc import Callable
from typing import Any

import torch
from fairseq.file_io import PathManager

from .patch import patch


@patch("fairseq.checkpoint_utils:_torch_persistent_save", "lost")
def _save_from_start(save: Callable[..., None], obj: Any, file: Any) -> None:
    """Symptom: if writing fails once, as on a disk that is full for a moment, the checkpoint and
    its copies are unreadable. Cause: fairseq tries again where the first attempt ended. Can go when
    fairseq begins at the start of the file."""
    for pause in (2.5, 2.5, None):  # seconds
        try:
            return torch.save(obj, file)
        except (OSError, RuntimeError):  # torch reports a full disk as the latter
            if pause is None:
                raise
            time.sleep(pause)
            file.seek(0)
            file.truncate()


@patch("fairseq.file_io:PathManager.rename", "lost")
def _rename_written(rename: Callable[[str, str], None], source: str, target: str) -> None:
    """Symptom: after a power failure the last checkpoint is all zeros, and its predecessor is gone.
    Cause: fairseq renames a file before the system has written it to the disk. Can go when fairseq
    waits for that."""
    with open(source, "rb") as file:
        os.fsync(file.fileno())
    rename(source, target)


@patch("fairseq.file_io:PathManager.copy", "lost")
def _copy_complete(copy: Callable[..., Any], source: str, target: str, overwrite: bool = False):
    """Symptom: a training killed while it copies a checkpoint leaves ``checkpoint_last.pt`` cut
    short. Cause: fairseq writes a checkpoint under another name and renames it, but not its
    copies. Can go when fairseq does so for copies."""
    if not PathManager.supports_rename(target):
        return copy(source, target, overwrite=overwrite)
    copied = copy(source, f"{target}.tmp", overwrite=True)
    PathManager.rename(f"{target}.tmp", target)
    return copied
