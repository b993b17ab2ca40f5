"""Naming the file in what goes wrong with it."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pickle import UnpicklingError

import torch

from ..errors import InputError, find_one_line_error
from .workers import is_of_workers


@contextmanager
def naming(what: str) -> Iterator[None]:
    """Say of which file it was that something went wrong, in one line.

    Bytes that are not what they should be end in every kind of exception: torch, pickle, zipfile,
    omegaconf and fairseq raise some twenty of them.

    Args:
        what: the file, and what it is.

    Raises:
        InputError: anything went wrong, but for want of a GPU's memory or of another worker.
    """
    try:
        yield
    except Exception as error:
        found = find_one_line_error(error)
        if found is not None:
            raise found from None
        if isinstance(error, torch.OutOfMemoryError) or is_of_workers(error):
            raise
        if isinstance(error, OSError):
            raise InputError(f"{what} cannot be read: {error.strerror or error}") from error
        if isinstance(error, AssertionError) and str(error):  # fairseq's own words
            raise InputError(f"{what}: {error}") from error
        reason = _reason(error)
        raise InputError(f"{what} is damaged, truncated, or not fairseq's: {reason}") from error


def _reason(error: Exception) -> str:
    """What an exception says, in words where it is Python's or torch's own business."""
    text = re.sub(r"\[enforce fail at .*?\]\W*", "", str(error))
    refused = re.search(r"GLOBAL ([\w.]+)", text)
    if isinstance(error, UnpicklingError) and refused:
        return (
            f"it holds {refused[1]}, and nothing but tensors and plain types is read, since "
            "anything else could run code"
        )
    if isinstance(error, UnpicklingError):
        return "it does not hold what torch saves"
    # torch's unpickler takes bytes that are not there.
    if isinstance(error, EOFError | struct.error) or text == "index out of range":
        return "it ends too early"
    if isinstance(error, KeyError):
        return f"it has no {text}"
    # torch goes on with advice that is of no use here.
    text = re.split(r"\n|\. ", text)[0]
    if isinstance(error, TypeError | AttributeError):
        return f"a value in it is of another type than it should be ({text})"
    return text or type(error).__name__
