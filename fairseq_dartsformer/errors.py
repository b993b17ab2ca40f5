"""The exceptions that end a command as one line."""

import sys
import traceback

from hydra.errors import CompactHydraException

LONGEST = 2000  # characters of a line; a list of all candidates with its place has 400


class OneLineError(CompactHydraException):
    """Says all there is to say: on the terminal it is one line, and a non-zero exit status.

    The traceback is left out, since it would point into fairseq, where nothing is wrong. Hydra
    treats it so by its base class, everyone else by the hook below.

    What it quotes may come from a stranger's file: line ends and control characters are escaped,
    and the middle of what would fill the terminal is left out.
    """

    def __str__(self) -> str:
        text = super().__str__()
        if len(text) > LONGEST:
            text = f"{text[: LONGEST // 2]} ... {text[-LONGEST // 2 :]}"
        return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


class InputError(OneLineError, ValueError):
    """Bad input: names the option or field at fault, what it was and what it may be.

    Raised before training starts.
    """


class MissingSplitError(InputError, FileNotFoundError):
    """There is no such split of the data."""


class NotFiniteError(OneLineError, FloatingPointError):
    """A search has met a number that is not finite: says where, and from which state to go on."""


class WorkerError(OneLineError, RuntimeError):
    """The workers of a training are not what they must be: one is lost, or they disagree."""


def flag(name: str) -> str:
    """The option of a field."""
    return "--" + name.replace("_", "-")


def find_one_line_error(error: BaseException | None) -> OneLineError | None:
    """The :class:`OneLineError` behind ``error``, which fairseq may have wrapped in its own."""
    while error is not None and not isinstance(error, OneLineError):
        error = error.__cause__ or error.__context__
    return error


def install_excepthook() -> None:
    """Print an uncaught :class:`OneLineError` as one line; leave every other exception alone."""
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
