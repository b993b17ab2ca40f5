"""``dartsformer-plot``: a genotype as a picture, or alpha over the checkpoints of a search."""

from __future__ import annotations

import argparse
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import InputError
from ..search.snapshot import derive, find_checkpoints, history_of, load_snapshot
from ..search_space.alpha_history import AlphaHistory
from ..search_space.genotype import BUILTIN, Genotype
from .command import FIGURE_FORMATS, CommandParser, check_output, quiet, replacing, run_command

if TYPE_CHECKING:
    from matplotlib.figure import Figure

KINDS = {
    "genotype": "the architecture",
    "alpha": "mixing weights, a panel a node and a line an operation",
    "heat": "the same as a heat map",
    "certainty": "entropy and margin of every node",
    "choices": "what would have been derived, and since when",
}


def get_parser() -> CommandParser:
    parser = CommandParser(
        prog="dartsformer-plot",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="kinds of figures:\n"
        + "\n".join(f"  {kind:<10} {what}" for kind, what in KINDS.items()),
    )
    parser.add_argument(
        "inputs",
        nargs="+",
        metavar="INPUT",
        help="a genotype (file, or built-in name: " + ", ".join(BUILTIN) + "); the folder or some "
        "checkpoints of a search; or a table that this command has written",
    )
    parser.add_argument(
        "-o",
        "--output",
        required=True,
        metavar="FILE",
        help=f"the figure (.{', .'.join(FIGURE_FORMATS)}), or a table of all mixing weights (.tsv)",
    )
    parser.add_argument(
        "--kind",
        choices=list(KINDS),
        help="what to draw (default: genotype for a genotype or one checkpoint, else alpha)",
    )
    return parser


def checkpoints_of(inputs: Sequence[str]) -> list[str]:
    """Paths of checkpoints, those in folders included.

    Raises:
        InputError: a folder holds none, or something is neither.
    """
    paths: list[str] = []
    for given in inputs:
        if Path(given).is_dir():
            paths += map(str, find_checkpoints(Path(given)))
        elif given.endswith(".pt"):
            paths.append(given)
        else:
            raise InputError(
                f"{given}: expected the folder of a search, some of its checkpoints (.pt), or a "
                "table (.tsv) by itself"
            )
    return paths


def read_history(inputs: Sequence[str]) -> AlphaHistory:
    """Alpha over time, from a table or from checkpoints.

    Raises:
        InputError: it cannot be read, or holds no alpha.
    """
    if len(inputs) == 1 and inputs[0].endswith(".tsv"):
        return AlphaHistory.load(inputs[0])
    return history_of(map(load_snapshot, checkpoints_of(inputs)))


def read_genotype(inputs: Sequence[str]) -> Genotype:
    """A genotype as it is given, or derived from the last of the checkpoints.

    Raises:
        InputError: it cannot be read, or not be derived.
    """
    if any(given.endswith(".tsv") for given in inputs):
        raise InputError("--kind genotype needs a genotype or checkpoints: a table does not do")
    if is_genotype(inputs):
        return Genotype.load(inputs[0])
    results = map(load_snapshot, checkpoints_of(inputs))
    return derive(max(results, key=lambda result: result.updates))


def is_genotype(inputs: Sequence[str]) -> bool:
    """Whether what is given is neither checkpoints nor a table."""
    return (
        len(inputs) == 1
        and not inputs[0].endswith((".pt", ".tsv"))
        and not Path(inputs[0]).is_dir()
    )


def draw(kind: str | None, inputs: Sequence[str]) -> Figure:
    """Read what is given, and draw it.

    Raises:
        InputError: it cannot be read, or cannot be drawn so.
    """
    from .. import plots

    if kind is None:
        one = len(inputs) == 1 and not inputs[0].endswith(".tsv") and not Path(inputs[0]).is_dir()
        kind = "genotype" if one else "alpha"
    if kind == "genotype":
        return plots.genotype_figure(read_genotype(inputs))
    figure = {
        "alpha": plots.alpha_figure,
        "heat": plots.heat_figure,
        "certainty": plots.certainty_figure,
        "choices": plots.choices_figure,
    }[kind]
    return figure(read_history(inputs))


def main(args: Namespace) -> None:
    """Read, draw and write.

    Raises:
        InputError: an argument or an input is at fault; nothing has been written then.
    """
    quiet()
    from ..plots import save

    path = Path(args.output)
    formats = (*FIGURE_FORMATS, "tsv")
    if path.suffix[1:] not in formats:
        raise InputError(f"-o {path}: expected a suffix of {', '.join(formats)}")
    check_output(path, args.inputs)
    if path.suffix == ".tsv":
        if args.kind:
            raise InputError(f"--kind is {args.kind}: a table (-o {path}) has no kind")
        table = read_history(args.inputs).to_tsv()
        with replacing(path) as temporary:
            temporary.write_text(table, encoding="utf-8")
    else:
        figure = draw(args.kind, args.inputs)
        with replacing(path) as temporary:
            save(figure, temporary, path.suffix[1:])
    print(f"wrote {path}")


def cli_main() -> None:
    run_command(get_parser(), main)


if __name__ == "__main__":
    cli_main()
