"""Patches of fairseq; :data:`PATCHES` is the complete list, and ``docs/patches.md`` its table.

A patch is here only if, without it, a search or a derived model is wrong, lost, unsafe or cannot
start.
"""

from . import precision, reading, resuming, workers, writing  # noqa: F401
from .patch import PATCHES, Patch
from .reading import load_checkpoint

__all__ = ["PATCHES", "Patch", "apply", "load_checkpoint"]


def apply() -> None:
    """Apply every patch; a second call changes nothing."""
    reading.allow_safe_globals()
    for patch in PATCHES:
        patch.apply()
