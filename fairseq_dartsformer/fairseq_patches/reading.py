"""Read checkpoints without running code from them, and detect damage."""

import ast
import re
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
from .patch import patch

# The parts of a configuration whose text fairseq evaluates, and the syntax that cannot run code.
EVALUATED = ("model", "criterion", "optimizer", "lr_scheduler", "task")
HARMLESS = (
    *(ast.Expression, ast.Constant, ast.Name, ast.Attribute, ast.Tuple, ast.List, ast.Set),
    *(ast.Dict, ast.UnaryOp, ast.BinOp, ast.BoolOp, ast.Compare),
    *(ast.expr_context, ast.operator, ast.unaryop, ast.boolop, ast.cmpop),
)


def allow_safe_globals() -> None:
    """Allow torch to load the other types that fairseq saves.

    Symptom: ``WeightsUnpickler error: Unsupported global`` at resume and generation. Cause: since
    version 2.6, torch loads only tensors and plain types, so that a checkpoint cannot run code; nor
    can the types added here. Can go when fairseq saves plain types.
    """
    array = numpy._core.multiarray
    dtypes = {type(numpy.dtype(code)) for code in "?bBhHiIlLqQefdg"}
    torch.serialization.add_safe_globals(
        [Namespace, numpy.ndarray, numpy.dtype, array.scalar, array._reconstruct, *dtypes]
    )


def load_checkpoint(path: str) -> dict[str, Any]:
    """Load a checkpoint's state to the CPU, without running code from it; raise an
    :class:`InputError` if the file is missing, damaged, or holds more than plain types."""
    return checkpoint_utils.load_checkpoint_to_cpu(path)  # patched below


def peek(path: str) -> dict[str, Any]:
    """Load a checkpoint as it was saved; tensors stay in the file until they are used. Errors are
    those of :func:`load_checkpoint`."""
    with reading(path):
        compare_checksums(path)
        return torch.load(path, map_location="cpu", mmap=zipfile.is_zipfile(path))


@contextmanager
def reading(path: str) -> Iterator[None]:
    """Turn every error while a checkpoint is read, except running out of memory, into an
    :class:`InputError` that names the file: torch, pickle, zipfile, omegaconf and fairseq raise
    some twenty kinds for damaged files."""
    try:
        yield
    except Exception as error:
        found = find_one_line_error(error)
        if found is not None:
            raise found from None
        if isinstance(error, torch.OutOfMemoryError | MemoryError):
            raise
        text = str(error)
        if isinstance(error, OSError) and error.filename:
            reason = f"cannot be read: {error.strerror}"
        elif unsafe := re.search(r"GLOBAL (\S+)", text):
            reason = f"holds {unsafe[1]}: expected tensors and plain types, which cannot run code"
        else:
            # torch's own words recommend loading unsafely.
            words = [] if "weights_only" in text else text.splitlines()[:1]
            kind = ": ".join([type(error).__name__, *words])[:100]
            reason = f"is damaged, or not a fairseq checkpoint ({kind})"
        raise InputError(f"checkpoint {path} {reason}") from error


def compare_checksums(path: str) -> None:
    """Raise a ``BadZipFile`` if the contents of a checkpoint do not match its checksums."""
    if not zipfile.is_zipfile(path):  # saved before torch 1.6, or cut short: loading it will tell
        return
    with zipfile.ZipFile(path) as archive:
        damaged = archive.testzip()
    if damaged is not None:
        raise zipfile.BadZipFile(f"{damaged} does not match its checksum")


def check_options(cfg: Any, path: str) -> None:
    """Raise an :class:`InputError` if options would run code when fairseq evaluates them."""
    groups = OmegaConf.to_container(cfg, resolve=False) if OmegaConf.is_config(cfg) else {}
    for group in EVALUATED:
        if (code := _find_code(groups.get(group))) is not None:
            raise InputError(
                f"checkpoint {path}: an option of its {group} is {code[:200]!r}, which could run "
                "code: expected plain values"
            )


def _find_code(value: Any) -> str | None:
    """The first text in a value that is a Python expression with a call or the like."""
    value = vars(value) if isinstance(value, Namespace) else value
    if isinstance(value, Mapping):
        # Nothing evaluates files and splits, which may look like calls: `corpus(1)`.
        paths = "data|.*path|init_from_search|latency_table|arch_subset"
        value = [v for k, v in value.items() if not re.fullmatch(paths, str(k))]
    if isinstance(value, list | tuple):
        return next(filter(None, map(_find_code, value)), None)
    if not isinstance(value, str):
        return None
    try:
        nodes = list(ast.walk(ast.parse(value.strip(), mode="eval")))
    except (SyntaxError, ValueError):
        nodes = []
    except (MemoryError, RecursionError):  # nested too deeply
        return value
    harmless = all(isinstance(node, HARMLESS) for node in nodes)
    return None if harmless and "${" not in value else value  # omegaconf replaces ${...}


@patch("fairseq.checkpoint_utils:load_checkpoint_to_cpu", "unsafe")
def _checked_load(load: Callable[..., dict[str, Any]], path: str, *args: Any, **kwargs: Any):
    """Symptom: a checkpoint with a flipped bit is loaded without an error; for a file that is no
    checkpoint, torch recommends ``weights_only=False``; the text of its options runs code, although
    tensors are loaded safely. Cause: torch writes checksums and does not compare them; fairseq
    evaluates options such as Adam's betas. Can go when torch compares them and fairseq uses
    ``ast.literal_eval``."""
    with reading(path):
        compare_checksums(path)
        state = load(path, *args, **kwargs)
        check_options(state.get("cfg"), path)
        return state
