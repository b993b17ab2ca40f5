"""Reading checkpoints: without running code from them, and noticing damage."""

from __future__ import annotations

import ast
import zipfile
from argparse import Namespace
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy
import torch
from fairseq import checkpoint_utils
from omegaconf import OmegaConf

from ..errors import InputError, find_one_line_error
from .patch import Patch

# Parts of a checkpoint's configuration whose text fairseq may evaluate.
EVALUATED = ("model", "criterion", "optimizer", "lr_scheduler")


def allow_safe_globals() -> None:
    """Let torch load what fairseq saves besides tensors and plain types.

    Symptom: ``WeightsUnpickler error: Unsupported global`` at resume and generation. Cause: since
    2.6, torch loads only tensors and plain types, so that a checkpoint cannot run code. These few
    more cannot either. Can go when fairseq saves plain types.
    """
    array = numpy._core.multiarray
    dtypes = {type(numpy.dtype(code)) for code in "?bBhHiIlLqQefdg"}
    torch.serialization.add_safe_globals(
        [Namespace, numpy.ndarray, numpy.dtype, array.scalar, array._reconstruct, *dtypes]
    )


def load_checkpoint(path: str) -> dict[str, Any]:
    """A checkpoint's state, on the CPU; runs no code from it.

    Raises:
        InputError: the file is missing, damaged, or holds more than tensors and plain types.
    """
    with reading(path):
        return checkpoint_utils.load_checkpoint_to_cpu(path)


@contextmanager
def reading(path: str) -> Iterator[None]:
    """Report in one line, by the file's name, what goes wrong while a checkpoint is read.

    Raises:
        InputError: anything did; torch, pickle, zipfile, omegaconf and fairseq raise some twenty
            kinds of exceptions for damaged files.
    """
    try:
        yield
    except Exception as error:
        found = find_one_line_error(error)
        if found is not None:
            raise found from None
        if isinstance(error, torch.OutOfMemoryError | MemoryError):
            raise
        if isinstance(error, OSError):
            reason = f"cannot be read: {error.strerror or error}"
        else:
            text = str(error).partition("\n")[0] or type(error).__name__
            reason = f"is damaged, or not as fairseq writes it: {text}"
        raise InputError(f"checkpoint {path} {reason}") from error


def compare_checksums(path: str) -> None:
    """Compare the contents of a checkpoint with the checksums in it.

    Raises:
        BadZipFile: they differ, or the file is cut short or no archive.
    """
    with zipfile.ZipFile(path) as archive:
        damaged = archive.testzip()
    if damaged is not None:
        raise zipfile.BadZipFile(f"{damaged} does not match its checksum")


def check_options(cfg: Any, path: str) -> None:
    """Refuse a configuration with an option that calls something when fairseq evaluates it.

    Raises:
        InputError: there is one.
    """
    groups = OmegaConf.to_container(cfg, resolve=False) if OmegaConf.is_config(cfg) else {}
    for group in EVALUATED:
        options = groups.get(group)
        options = vars(options) if isinstance(options, Namespace) else options
        for name, value in options.items() if isinstance(options, Mapping) else ():
            if isinstance(value, str) and (_calls(value) or "${" in value):
                raise InputError(
                    f"checkpoint {path}: the option {name} is {value[:200]!r}, which would run "
                    "code: expected plain values"
                )


def _calls(text: str) -> bool:
    """Whether a text is a Python expression with a call in it."""
    try:
        tree = ast.parse(text.strip(), mode="eval")
    except (SyntaxError, ValueError):
        return False
    except (MemoryError, RecursionError):  # nested too deeply for options
        return True
    return any(isinstance(node, ast.Call | ast.Await) for node in ast.walk(tree))


def _checked_load(load: Callable[..., dict[str, Any]]):
    """Symptoms: a checkpoint with a flipped bit is loaded as if nothing were wrong; the text of its
    options runs code, though tensors are loaded safely. Causes: torch writes checksums and does
    not compare them; fairseq evaluates options (Adam's betas, kernel sizes). Can go when torch
    compares and fairseq uses ``ast.literal_eval``."""

    def load_checkpoint_to_cpu(path: str, *args: Any, **kwargs: Any) -> dict[str, Any]:
        if zipfile.is_zipfile(path):  # else from before torch 1.6, or cut: loading it will tell
            compare_checksums(path)
        state = load(path, *args, **kwargs)
        check_options(state.get("cfg"), path)
        return state

    return load_checkpoint_to_cpu


PATCHES = (Patch("fairseq.checkpoint_utils:load_checkpoint_to_cpu", "unsafe", _checked_load),)
