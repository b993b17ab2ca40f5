"""Plugins whose names are known to one module's tests and to no others."""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

from fairseq import utils

from fairseq_dartsformer.cli import derive
from fairseq_dartsformer.operations import OPERATIONS, OPERATIONS_BY_STACK
from fairseq_dartsformer.plots.style import LOOKS
from fairseq_dartsformer.search.registry import STRATEGIES

EXTENDING = str(Path(__file__).parents[2] / "docs" / "extending")
TRIAL = ["--user-dir", EXTENDING, *"--max-update 6 --disable-validation".split()]
TABLES = (OPERATIONS, STRATEGIES, LOOKS)


def derived(folder: Path) -> Path:
    """Derive the genotype of the search in a folder into a file."""
    path = folder / "genotype.json"
    checkpoint = str(folder / "checkpoints" / "checkpoint_last.pt")
    derive.main(derive.get_parser().parse_args([checkpoint, "-o", str(path)]))
    return path


@contextmanager
def registered(folder: str) -> Iterator[ModuleType]:
    """Within, its operations and strategies are known; tasks are fairseq's to keep."""
    before = _names()
    _restore(_names_with(folder))
    try:
        yield sys.modules[Path(folder).name]
    finally:
        _restore(before)


@cache  # a module is imported once
def _names_with(folder: str) -> tuple[Any, ...]:
    before = _names()
    utils.import_user_module(Namespace(user_dir=folder))
    after = _names()
    _restore(before)
    return after


def _names() -> tuple[Any, ...]:
    """All that is registered."""
    return {k: list(v) for k, v in OPERATIONS_BY_STACK.items()}, *(dict(t) for t in TABLES)


def _restore(names: tuple[Any, ...]) -> None:
    stacks, *tables = names
    OPERATIONS_BY_STACK.update({k: list(v) for k, v in stacks.items()})
    for table, entries in zip(TABLES, tables, strict=True):
        table.clear()
        table.update(entries)
