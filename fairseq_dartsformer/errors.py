"""Exceptions that end a command with one line instead of a traceback."""

import sys
import traceback

from hydra.errors import CompactHydraException

LONGEST = 2000  # characters of a message; a list of all candidates has 400


class OneLineError(CompactHydraException):
    """An error whose message is all that a user needs.

    The terminal shows one line and the exit status is not zero. The traceback is left out, since it
    would point into fairseq, where nothing is wrong. Hydra recognises the base class; for other
    commands :func:`install_excepthook` does the same.

    Messages may quote untrusted files: line ends and control characters are escaped, and the middle
    of a message longer than :data:`LONGEST` is left out.
    """

    def __str__(self) -> str:
        text = super().__str__()
        if len(text) > LONGEST:
            text = f"{text[: LONGEST // 2]} ... {text[-LONGEST // 2 :]}"
        return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


class InputError(OneLineError, ValueError):
    """Bad input; raised before training starts.

    The message names the option or field, its value and the values that are allowed.
    """


class NotFiniteError(OneLineError, FloatingPointError):
    """The loss or a parameter of a search is not finite."""


class WorkerError(OneLineError, RuntimeError):
    """The workers of a training disagree."""


def flag(name: str) -> str:
    """The command-line option of a field: ``arch_lr`` becomes ``--arch-lr``."""
    return "--" + name.replace("_", "-")


def find_one_line_error(error: BaseException | None) -> OneLineError | None:
    """Find a :class:`OneLineError` in the chain of exceptions that led to ``error``."""
    while error is not None and not isinstance(error, OneLineError):
        error = error.__cause__ or error.__context__
    return error


def install_excepthook() -> None:
    """Print an uncaught :class:`OneLineError` as one line; leave other exceptions to the previous
    hook."""
    previous = sys.excepthook
    if getattr(previous, "prints_one_line", False):
        return

    def excepthook(kind, error, trace):
        found = find_one_line_error(error)
        if found is None:
            previous(kind, error, trace)
        else:
            print("".join(traceback.format_exception_only(found)).strip(), file=sys.stderr)

    excepthook.prints_one_line = True
    sys.excepthook = excepthook
