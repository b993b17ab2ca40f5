"""Reading checkpoints: without running code from them, and noticing damage."""

from __future__ import annotations

import os
import zipfile
from argparse import Namespace
from functools import wraps
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import numpy
import torch
from fairseq import checkpoint_utils

from .naming import naming

ARCHIVE = b"PK\x03\x04"
OLD = torch.serialization.MAGIC_NUMBER.to_bytes(10, "little")


def apply() -> None:
    """Put these workarounds in place."""
    torch.serialization.add_safe_globals(_safe_globals())
    checkpoint_utils.load_checkpoint_to_cpu = _name_bad_file(
        checkpoint_utils.load_checkpoint_to_cpu
    )
    checkpoint_utils.load_model_ensemble_and_task = _name_unfit(
        checkpoint_utils.load_model_ensemble_and_task
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
        with naming(f"checkpoint {path}"):
            if os.path.isfile(path):
                check_kind(path)
                compare_checksums(path)
            return load(path, *args, **kwargs)

    load_checkpoint_to_cpu.patched_by_dartsformer = True
    return load_checkpoint_to_cpu


def check_kind(path: str | Path) -> None:
    """Refuse what is no archive, and no file from before torch 1.6.

    Symptoms: words of torch's unpickler, which takes any bytes for a program; a warning beside.

    Raises:
        EOFError: the file is empty.
        UnpicklingError: it does not begin as either does.
    """
    with open(path, "rb") as file:
        start = file.read(64)
    if not start:
        raise EOFError
    if not start.startswith(ARCHIVE) and OLD not in start:
        raise UnpicklingError(f"{path} begins with {start[:8]!r}")


def compare_checksums(path: str | Path) -> None:
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


def _name_unfit(load):
    """Name the file of which no model can be made.

    Symptom: a checkpoint that is whole, with a value that is not as fairseq writes it, ends in a
    traceback. Goes when fairseq checks what it reads.
    """

    @wraps(load)
    def load_model_ensemble_and_task(filenames, *args, **kwargs):
        with naming(f"checkpoint {', '.join(filenames)}"):
            return load(filenames, *args, **kwargs)

    return load_model_ensemble_and_task
