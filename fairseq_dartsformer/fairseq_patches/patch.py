"""One patched place of fairseq, and how it is put in place."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import Any

CATEGORIES = ("wrong", "lost", "unsafe", "cannot start")


@dataclass(frozen=True)
class Patch:
    """A replacement for one of fairseq's functions or classes.

    Attributes:
        target: dotted name of what is replaced.
        category: what happens without it, one of :data:`CATEGORIES`.
        make: takes the original and returns the replacement; its docstring gives symptom, cause
            and when the patch can go.
    """

    target: str
    category: str
    make: Callable[[Any], Any]

    def apply(self) -> None:
        """Put it in place, once."""
        module, _, path = self.target.partition(":")
        owner = importlib.import_module(module)
        *outer, name = path.split(".")
        for part in outer:
            owner = getattr(owner, part)
        original = inspect.getattr_static(owner, name)
        kind = type(original) if isinstance(original, classmethod | staticmethod) else None
        function = original.__func__ if kind else original
        if getattr(function, "patched_by_dartsformer", False):
            return
        replacement = wraps(function, updated=())(self.make(function))
        replacement.patched_by_dartsformer = True
        setattr(owner, name, kind(replacement) if kind else replacement)
