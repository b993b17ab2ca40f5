"""The one exception for input that a user can mend."""

import sys
import traceback

from hydra.errors import CompactHydraException


class InputError(CompactHydraException, ValueError):
    """Bad input: names the option or field at fault, what it was and what it may be.

    Raised before training starts. On the terminal it is one line, without the traceback (which
    would point into fairseq, where nothing is wrong), and a non-zero exit status. Hydra treats it
    so by its base class, everyone else by the hook below.
    """


def find_input_error(error: BaseException | None) -> InputError | None:
    """The :class:`InputError` behind ``error``, which fairseq may have wrapped in its own."""
    while error is not None and not isinstance(error, InputError):
        error = error.__cause__ or error.__context__
    return error


def install_excepthook() -> None:
    """Print an uncaught :class:`InputError` as one line; leave every other exception alone."""
    previous = sys.excepthook
    if getattr(previous, "prints_input_errors", False):
        return

    def excepthook(kind, error, trace):
        found = find_input_error(error)
        if found is None:
            previous(kind, error, trace)
        else:
            print("".join(traceback.format_exception_only(found)).strip(), file=sys.stderr)

    excepthook.prints_input_errors = True
    sys.excepthook = excepthook
