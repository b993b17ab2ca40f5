"""The commands, one a file. What they share: one-line errors, and whole files or none."""

import logging
import os
import sys
import warnings
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fairseq import utils

from ..errors import InputError

FIGURE_FORMATS = ("pdf", "png", "svg")


class CommandParser(ArgumentParser):
    """A parser of a command's arguments, with the option that all of them have.

    Args:
        description: may be a docstring; its marks of code are left out.
        arguments: argparse's others.
    """

    def __init__(self, description: str, **arguments: Any):
        super().__init__(description=description.replace("``", ""), **arguments)
        self.add_argument(
            "--user-dir",
            type=_plugin,
            metavar="FOLDER",
            help="a plugin to import first, as fairseq-train takes it: it registers operations, "
            "strategies and tasks that the input names",
        )


def _plugin(folder: str) -> str:
    """A type for argparse: it imports the plugin."""
    try:
        utils.import_user_module(Namespace(user_dir=folder))
    except ImportError as error:  # as when another module is called so
        raise ArgumentTypeError(str(error)) from error
    except FileNotFoundError:
        raise ArgumentTypeError(f"is {folder!r}, but there is no such folder") from None
    return folder


def run_command(parser: ArgumentParser, main: Callable[..., None], others: bool = False) -> None:
    """Run a command; an :class:`InputError` ends it as one line and with exit status 1.

    Args:
        parser: of its arguments.
        main: what it does, given these.
        others: give ``main`` also the list of arguments that the parser does not know.
    """
    try:
        main(*parser.parse_known_args() if others else [parser.parse_args()])
    except InputError as error:
        parser.exit(1, f"{parser.prog}: error: {error}\n")
    except BrokenPipeError:  # as of `| head`: the rest is not wanted, and flushing must not fail
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:  # of a path at which nothing can be, as one that is too long
        reason = InputError(f"{error.filename}: {error.strerror}" if error.filename else error)
        parser.exit(1, f"{parser.prog}: error: {reason}\n")


def quiet() -> None:
    """Keep other libraries' notes off the terminal: importing fairseq turns on everybody's."""
    for name in ("", "fairseq", "hydra"):
        logging.getLogger(name).setLevel(logging.WARNING)
    # fairseq calls hydra in ways that hydra has renamed since, which no user can change.
    warnings.filterwarnings("ignore", r"(?is).*(hydra|version_base)", UserWarning)


def number(
    text: str, read: Callable[[str], float], fits: Callable[[Any], bool], expected: str
) -> Any:
    """An argument's number.

    Args:
        text: the argument.
        read: reads it, or raises a ``ValueError``.
        fits: whether the number may be given.
        expected: what may be, in words.

    Raises:
        ArgumentTypeError: another was; argparse names the option.
    """
    try:
        value = read(text)
    except ValueError:
        value = None
    if value is None or not fits(value):
        raise ArgumentTypeError(f"is {text!r}, it must be {expected}")
    return value


def positive_integer(text: str) -> int:
    """A type for argparse, which reports the error."""
    return number(text, int, lambda value: value >= 1, "a whole number from 1")


def vocabulary_size(text: str) -> int:
    """A type for argparse: symbols of a dictionary, four of which are fairseq's own."""
    return number(text, int, lambda value: value >= 5, "a whole number from 5")


def add_vocabulary(parser: ArgumentParser) -> None:
    """The option of the commands that build models without data."""
    parser.add_argument(
        "--vocabulary",
        type=vocabulary_size,
        default=32768,
        metavar="N",
        help="symbols of the dictionary, which both sides share (default: 32768)",
    )


def check_output(output: Path, inputs: list[str], option: str = "-o") -> None:
    """Refuse an output file that is an input, a folder or a device, or that has no folder.

    Args:
        output: the file.
        inputs: paths that are read.
        option: what names the output.

    Raises:
        InputError: as said.
    """
    if not output.parent.is_dir():
        raise InputError(f"{option} {output}: there is no folder {output.parent}")
    if output.exists() and not output.is_file():
        raise InputError(f"{option} {output}: exists and is not a file")
    for path in inputs:
        if os.path.realpath(path) == os.path.realpath(output):
            raise InputError(f"{option} {output}: would overwrite a file that is read")


@contextmanager
def replacing(output: Path, option: str = "-o") -> Iterator[Path]:
    """Give a temporary path beside ``output``, which takes its place if all goes well.

    Args:
        output: the file.
        option: what names it.

    Raises:
        InputError: it cannot be written.
    """
    output = Path(os.path.realpath(output))  # a link stays a link
    temporary = output.with_name(f".{output.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        temporary.replace(output)
    except (OSError, RuntimeError) as error:  # RuntimeError: how torch.save reports a full disk
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"{option} {output}: cannot be written: {reason}") from error
    finally:
        temporary.unlink(missing_ok=True)
