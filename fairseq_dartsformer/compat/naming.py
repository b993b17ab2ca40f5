"""Naming the file in what goes wrong with it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

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
        # torch goes on with advice that is of no use here.
        reason = re.split(r"\n|\. ", str(error))[0] or type(error).__name__
        raise InputError(f"{what} is damaged, truncated, or not fairseq's: {reason}") from error
