"""The places of fairseq that are patched, and why; :data:`PATCHES` is the complete list.

A patch is here only if, without it, a search or a derived model is wrong, lost, unsafe or cannot
start. Other tasks than this plugin's are affected by nothing beyond the list.
"""

from __future__ import annotations

from . import precision, reading, resuming, workers, writing
from .patch import Patch
from .precision import undo_tpu
from .reading import load_checkpoint

__all__ = ["PATCHES", "Patch", "apply", "load_checkpoint", "undo_tpu"]

MODULES = (reading, resuming, writing, workers, precision)
PATCHES: tuple[Patch, ...] = tuple(patch for module in MODULES for patch in module.PATCHES)


def apply() -> None:
    """Put every patch in place; a second call, as by a second import, changes nothing."""
    reading.allow_safe_globals()
    for patch in PATCHES:
        patch.apply()
