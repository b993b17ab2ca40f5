"""Checkpoints: copied wholly or not at all, and read without running code from them."""

from __future__ import annotations

import pickle
import re
import struct
import zipfile
from argparse import Namespace
from functools import wraps
from typing import Any

import numpy
import torch
from fairseq import checkpoint_utils
from fairseq.file_io import PathManager

from ..errors import InputError


def apply() -> None:
    """Put these workarounds in place."""
    torch.serialization.add_safe_globals(_safe_globals())
    checkpoint_utils.load_checkpoint_to_cpu = _name_bad_file(
        checkpoint_utils.load_checkpoint_to_cpu
    )
    PathManager.copy = staticmethod(_copy_whole(PathManager.copy))


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

    Symptom: a truncated checkpoint ends in ``PytorchStreamReader failed``. Goes when fairseq says
    which file it could not read.
    """

    # What torch and pickle were seen to raise on cut files and flipped bytes, and fairseq on files
    # that are not its own.
    unreadable = (
        RuntimeError,
        EOFError,
        zipfile.BadZipFile,
        pickle.UnpicklingError,
        LookupError,
        TypeError,
        ValueError,
        AttributeError,
        struct.error,
    )

    @wraps(load)
    def load_checkpoint_to_cpu(path: str, *args, **kwargs) -> dict[str, Any]:
        try:
            return load(path, *args, **kwargs)
        except OSError as error:
            raise InputError(f"checkpoint {path} cannot be read: {error.strerror}") from error
        except unreadable as error:
            # torch goes on with advice that is of no use here.
            reason = re.split(r"\n|\. ", str(error))[0] or type(error).__name__
            raise InputError(
                f"checkpoint {path} is damaged, truncated, or not fairseq's: {reason}"
            ) from error

    load_checkpoint_to_cpu.patched_by_dartsformer = True
    return load_checkpoint_to_cpu


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


def load_checkpoint(path: str) -> dict[str, Any]:
    """A checkpoint's state, on the CPU; runs no code from it.

    Raises:
        InputError: the file is missing, damaged, or holds more than tensors and plain types.
    """
    return checkpoint_utils.load_checkpoint_to_cpu(path)
