"""Settings of glibc's allocator for reconstruction on a CPU."""

from __future__ import annotations

import ctypes
import os
import platform
from functools import cache

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # malloc.h
MMAP_THRESHOLD = 1 << 20  # bytes; a split of 5,000 tokens takes 2.4 MB at d 240
TRIM_THRESHOLD = 1 << 27  # smaller ones cost page faults
CHOSEN_BY_USER = ("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_", "GLIBC_TUNABLES")


@cache
def return_freed_tensors() -> None:
    """Let glibc return each freed tensor of 1 MiB or more to the system at once.

    By default, glibc returns memory from 128 KiB on, but raises that size whenever it frees more at
    once, up to 32 MiB. The temporaries of a recomputed layer are then taken from the heap, between
    the gradients of weights, and leave gaps into which the next ones do not fit: the process holds
    about twice the memory of its tensors. A fixed size prevents that.

    Applies to the process, from the first pass with reconstruction on. Does nothing without glibc,
    or if the user has set the allocator by an environment variable.
    """
    if platform.libc_ver()[0] == "glibc" and not any(map(os.environ.get, CHOSEN_BY_USER)):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(M_MMAP_THRESHOLD, MMAP_THRESHOLD)
        mallopt(M_TRIM_THRESHOLD, TRIM_THRESHOLD)
