"""``dartsformer-plot``: draw a genotype, alpha over a search, or scores against latency."""

import os
from argparse import Namespace
from collections.abc import Iterator, Sequence
from pathlib import Path

from matplotlib.figure import Figure

from .. import plots
from ..errors import InputError
from ..evolution.history import read_scores
from ..search.history import check_one_space, find_checkpoints, history_of
from ..search.snapshot import Snapshot, derive, load_snapshot
from ..search_space.alpha_history import AlphaHistory
from ..search_space.genotype import BUILTIN, Genotype
from ..search_space.latency_table import LatencyTable
from .command import FIGURE_FORMATS, CommandParser, check_output, replacing, run_command

HISTORIES = {"alpha": plots.alpha_figure, "choices": plots.choices_figure}
LATENCY = "latency"
FORMATS = (*FIGURE_FORMATS, "tsv")


def get_parser() -> CommandParser:
    parser = CommandParser(prog="dartsformer-plot", description=__doc__)
    parser.add_argument(
        "inputs",
        nargs="+",
        metavar="INPUT",
        help=f"a genotype (file, or built-in name: {', '.join(BUILTIN)}); the folder or some "
        "checkpoints of a search; a table that this command wrote; or histories of "
        "dartsformer-evolve (.jsonl)",
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
        choices=["genotype", *HISTORIES, LATENCY],
        help="genotype: the architecture; alpha: mixing weights, one panel a node; choices: the "
        "operations that would be derived; latency: scores of dartsformer-evolve against the "
        "latencies of --latency-table, and the Pareto front (default: latency for .jsonl, genotype "
        "for a genotype or one checkpoint, else alpha)",
    )
    parser.add_argument(
        "--latency-table",
        metavar="FILE",
        help="written by dartsformer-latency, for --kind latency",
    )
    return parser


def read_snapshots(inputs: Sequence[str]) -> Iterator[Snapshot]:
    """Read checkpoints, and those in folders; raise an :class:`InputError` if one cannot be read or
    a folder has none."""
    for given in inputs:
        if Path(given).is_dir():
            yield from (load_snapshot(str(path)) for path in find_checkpoints(Path(given)))
        elif given.endswith(".pt"):
            yield load_snapshot(given)
        else:
            raise InputError(
                f"{given}: expected the folder of a search, some of its checkpoints (.pt), or "
                "nothing but one table (.tsv)"
            )


def read_history(inputs: Sequence[str]) -> AlphaHistory:
    """Read alpha over time from a table or from checkpoints; raise an :class:`InputError` if they
    cannot be read, or if the search does not learn alpha."""
    if len(inputs) == 1 and inputs[0].endswith(".tsv"):
        return AlphaHistory.load(inputs[0])
    return history_of(read_snapshots(inputs))


def read_genotype(inputs: Sequence[str]) -> Genotype:
    """Read a genotype, or derive it from the last of several checkpoints; raise an
    :class:`InputError` if that is impossible."""
    if any(given.endswith(".tsv") for given in inputs):
        raise InputError("--kind genotype needs a genotype or checkpoints, not a table")
    if len(inputs) == 1 and not inputs[0].endswith(".pt") and not Path(inputs[0]).is_dir():
        return Genotype.load(inputs[0])
    snapshots = list(read_snapshots(inputs))
    check_one_space(snapshots)
    return derive(max(snapshots, key=lambda snapshot: snapshot.updates))


def default_kind(inputs: Sequence[str]) -> str:
    """Return the ``--kind`` of inputs for which none is given."""
    if all(given.endswith(".jsonl") for given in inputs):
        return LATENCY
    several = len(inputs) > 1 or inputs[0].endswith(".tsv") or Path(inputs[0]).is_dir()
    return "alpha" if several else "genotype"


def draw_latency(inputs: Sequence[str], table: str | None) -> Figure:
    """Draw the scores in histories of ``dartsformer-evolve`` against latency; raise an
    :class:`InputError` if something cannot be read, or if the scores are not the same kind."""
    if table is None:
        raise InputError("--latency-table is missing: --kind latency needs it")
    latencies, names, scores = LatencyTable.load(table), set(), {}
    for given in inputs:
        name, found = read_scores(given)
        names.add(name)
        scores |= found
    if not scores:
        raise InputError(f"{', '.join(inputs)}: without any genotype")
    if len(names) > 1:
        raise InputError(f"{', '.join(inputs)}: have different scores: {', '.join(sorted(names))}")
    return plots.latency_figure([*map(latencies.predict, scores)], [*scores.values()], *names)


def main(args: Namespace) -> None:
    """Read, draw and write; a wrong argument or input raises an :class:`InputError` before anything
    is written."""
    inputs, path, kind = args.inputs, Path(args.output), args.kind
    if path.suffix[1:] not in FORMATS:
        raise InputError(f"-o {path}: expected a suffix of {', '.join(FORMATS)}")
    for given in inputs:
        if given not in BUILTIN and not os.path.exists(given):
            known = ", ".join(BUILTIN)
            raise InputError(f"{given}: no such file, folder or built-in genotype ({known})")
    if args.latency_table is not None and (kind or default_kind(inputs)) != LATENCY:
        raise InputError("--latency-table goes with --kind latency")
    check_output(path, [*inputs, *filter(None, [args.latency_table])])
    if path.suffix == ".tsv":
        if kind:
            raise InputError(f"--kind is {kind}, but -o {path} is a table")
        table = read_history(inputs).to_tsv()
        with replacing(path) as temporary:
            temporary.write_text(table, encoding="utf-8")
    else:
        kind = kind or default_kind(inputs)
        if kind == LATENCY:
            figure = draw_latency(inputs, args.latency_table)
        elif kind == "genotype":
            figure = plots.genotype_figure(read_genotype(inputs))
        else:
            figure = HISTORIES[kind](read_history(inputs))
        with replacing(path) as temporary:
            plots.save(figure, temporary, path.suffix[1:])
    print(f"wrote {path}")


def cli_main() -> None:
    run_command(get_parser(), main)


if __name__ == "__main__":
    cli_main()
