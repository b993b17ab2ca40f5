"""The table of patches: each has a target in fairseq and a replacement."""

import inspect
import pkgutil
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import Any


@dataclass(frozen=True)
class Patch:
    """A replacement for one function or class of fairseq.

    Attributes:
        target: what is replaced, as ``module:name`` or ``module:class.name``.
        category: what a search or a derived model is without the patch: ``"wrong"``, ``"lost"``,
            ``"unsafe"``, or it ``"cannot start"``.
        replacement: called with the original and its arguments. The docstring gives the symptom
            without the patch, its cause, and when the patch can go.
    """

    target: str
    category: str
    replacement: Callable[..., Any]

    def apply(self) -> None:
        """Replace the target, unless it is replaced already."""
        place, name = re.split(r"[:.](?=\w+$)", self.target)
        owner = pkgutil.resolve_name(place)
        original = inspect.getattr_static(owner, name)
        kind = type(original) if isinstance(original, classmethod | staticmethod) else None
        function = original.__func__ if kind else original
        if getattr(function, "patched_by_dartsformer", False):
            return

        @wraps(function, updated=())
        def patched(*args: Any, **kwargs: Any) -> Any:
            return self.replacement(function, *args, **kwargs)

        patched.patched_by_dartsformer = True
        setattr(owner, name, kind(patched) if kind else patched)


PATCHES: list[Patch] = []


def patch(target: str, category: str) -> Callable[[Callable], Callable]:
    """Add the decorated function to the table, as the replacement of ``target``."""

    def add(replacement: Callable) -> Callable:
        PATCHES.append(Patch(target, category, replacement))
        return replacement

    return add
