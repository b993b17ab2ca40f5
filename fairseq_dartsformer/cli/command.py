"""Shared by the commands: options, one-line errors, and complete output files or none."""

import math
import os
import sys
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from fairseq import utils

from ..errors import InputError

FIGURE_FORMATS = ("pdf", "png", "svg")


class CommandParser(ArgumentParser):
    """A parser with the option ``--user-dir``, which all commands have.

    Args:
        description: of the command; a docstring's marks of code are left out.
        arguments: argparse's other arguments.
    """

    def __init__(self, description: str, **arguments: Any):
        super().__init__(description=description.replace("``", ""), **arguments)
        self.add_argument(
            "--user-dir",
            type=_plugin,
            metavar="FOLDER",
            help="a plugin to import first, as for fairseq-train: it registers operations, "
            "strategies and tasks that the input names",
        )


def _plugin(folder: str) -> str:
    """A type for argparse that imports the plugin."""
    try:
        utils.import_user_module(Namespace(user_dir=folder))
    except ImportError as error:  # for example, another module has the same name
        raise ArgumentTypeError(str(error)) from error
    except FileNotFoundError:
        raise ArgumentTypeError(f"is {folder!r}, but there is no such folder") from None
    return folder


def run_command(parser: ArgumentParser, main: Callable[..., None], others: bool = False) -> None:
    """Run a command; an :class:`InputError` ends it with one line and exit status 1.

    Args:
        parser: of the command's arguments.
        main: called with the parsed arguments.
        others: also pass ``main`` the arguments that the parser does not know.
    """
    try:
        main(*parser.parse_known_args() if others else [parser.parse_args()])
    except InputError as error:
        parser.exit(1, f"{parser.prog}: error: {error}\n")
    except BrokenPipeError:  # for example, `| head` has read enough; flushing must not fail
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:  # for example, a path is too long
        reason = f"{error.filename}: {error.strerror}" if error.filename else error
        parser.exit(1, f"{parser.prog}: error: {InputError(reason)}\n")


def number(
    text: str, read: Callable[[str], float], fits: Callable[[Any], bool], expected: str
) -> Any:
    """Read a number for argparse.

    Args:
        text: the argument.
        read: converts it, or raises a ``ValueError``.
        fits: whether the number is allowed.
        expected: the allowed numbers in words.

    Raises:
        ArgumentTypeError: the number is not allowed; argparse names the option.
    """
    try:
        value = read(text)
    except ValueError:
        value = None
    if value is None or not fits(value):
        raise ArgumentTypeError(f"is {text!r}, it must be {expected}")
    return value


def whole_number(least: int, most: float = math.inf) -> Callable[[str], int]:
    """A type for argparse."""
    expected = f"a whole number from {least}" + (f" to {most}" if most < math.inf else "")
    return partial(number, read=int, fits=lambda value: least <= value <= most, expected=expected)


positive_integer = whole_number(1)


def add_vocabulary(parser: ArgumentParser) -> None:
    """Add the option of commands that build models without data."""
    parser.add_argument(
        "--vocabulary",
        type=whole_number(5),  # four are fairseq's own
        default=32768,
        metavar="N",
        help="symbols of the joint dictionary (default: 32768)",
    )


def check_output(output: Path, inputs: list[str], option: str = "-o") -> None:
    """Raise an :class:`InputError` that names ``option`` if an output file is an input, a folder or
    a device, or if its folder is missing."""
    if not output.parent.is_dir():
        raise InputError(f"{option} {output}: there is no folder {output.parent}")
    if output.exists() and not output.is_file():
        raise InputError(f"{option} {output}: exists and is not a file")
    if any(os.path.realpath(path) == os.path.realpath(output) for path in inputs):
        raise InputError(f"{option} {output}: would overwrite a file that is read")


@contextmanager
def replacing(output: Path, option: str = "-o") -> Iterator[Path]:
    """Give a temporary path that replaces ``output`` at the end, unless there was an error; raise
    an :class:`InputError` that names ``option`` if the file cannot be written."""
    output = Path(os.path.realpath(output))  # a link stays a link
    temporary = output.with_name(f".{output.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        temporary.replace(output)
    except (OSError, RuntimeError) as error:  # RuntimeError: torch.save on a full disk
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"{option} {output}: cannot be written: {reason}") from error
    finally:
        temporary.unlink(missing_ok=True)
