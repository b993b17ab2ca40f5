"""Settings of glibc's allocator for reconstruction on a CPU."""

from __future__ import annotations

import ctypes
import os
import platform
from functools import cache

# From malloc.h.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
# Bytes. A split of 5,000 tokens takes 2.4 MB at d 240; smaller thresholds cost more page faults.
THRESHOLD = 1 << 20
CHOSEN_BY_USER = ("MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES")


@cache
def return_freed_tensors() -> None:
    """Let glibc return each freed tensor of 1 MB or more to the system at once.

    By default, glibc returns tensors from 128 kB on, but raises that size whenever a larger one is
    freed, up to 32 MB. The temporaries of a recomputed layer then come from the heap, where what
    they leave free is scattered among the gradients and cannot be returned: the process holds about
    twice the memory of its tensors. A fixed threshold prevents that.

    Applies to the process once, from the first pass with reconstruction on. Does nothing without
    glibc, or where the user has set the threshold by an environment variable.
    """
    if platform.libc_ver()[0] == "glibc" and not any(map(os.environ.get, CHOSEN_BY_USER)):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(M_MMAP_THRESHOLD, THRESHOLD)
        mallopt(M_TRIM_THRESHOLD, THRESHOLD)
