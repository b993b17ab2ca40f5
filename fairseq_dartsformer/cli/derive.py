"""``dartsformer-derive``: derive genotypes from the alpha of search checkpoints (Eq. 2)."""

import math
from argparse import Namespace
from collections.abc import Collection
from itertools import pairwise
from pathlib import Path

from ..errors import InputError
from ..search.snapshot import Snapshot, check_one_space, derive, load_snapshot, read_names
from ..search_space.alpha import entropy
from ..search_space.families import FIXED_OPERATION
from ..search_space.genotype import Genotype
from .command import CommandParser, check_output, positive_integer, replacing, run_command


def report(
    snapshot: Snapshot, exclude: Collection[str] | None = None, top: int | None = None
) -> str:
    """List each node with its choice, margin, entropy in nats, and operations by mixing weight.

    Args:
        snapshot: alpha and the search space.
        exclude: operations that are not chosen, by default the search's own; the margin is between
            the best two of the others.
        top: number of operations to show beside the chosen one; all by default.
    """
    exclude = snapshot.exclude if exclude is None else exclude
    pooling = f", {snapshot.pooling} pooling" if snapshot.family.pooled else ""
    norm = f", norm {snapshot.norm}" if snapshot.norm != "post" else ""
    lines = [f"{snapshot.path}: {snapshot.updates} updates{pooling}{norm}"]
    for node in snapshot.nodes():
        ranked = snapshot.ranked(node)
        allowed = [(name, weight) for name, weight in ranked if name not in exclude]
        chosen = allowed[0][0]
        margin = f"{allowed[0][1] - allowed[1][1]:.6f}" if len(allowed) > 1 else "none"
        nats = entropy(snapshot.weights_of(node)).item()
        lines.append(
            f"{snapshot.name(node)}: {chosen}, margin {margin}, "
            f"entropy {nats:.3f} of at most {math.log(len(ranked)):.3f}"
        )
        for place, (name, weight) in enumerate(ranked):
            if top is None or place < top or name == chosen:
                lines.append(f"  {weight:.6f} {name}{' (excluded)' if name in exclude else ''}")
        after = node._replace(place=node.place + 1)
        nodes = snapshot.alpha[node.stack].size(1) + 1
        if snapshot.family.is_fixed(node.stack, after.place, nodes):
            lines.append(f"{snapshot.name(after)}: {FIXED_OPERATION}, fixed")
    return "\n".join(lines)


def changes(snapshots: list[Snapshot], genotypes: list[Genotype]) -> str:
    """A table: a row for each node, a column for each checkpoint; ``*`` marks new choices.

    Raises:
        InputError: the checkpoints have different search spaces.
    """
    check_one_space(snapshots)
    nodes = list(snapshots[0].nodes())
    chosen = [[getattr(g, n.stack)[n.layer][n.place] for n in nodes] for g in genotypes]
    columns = [["updates", *map(snapshots[0].name, nodes), "changed"]]
    for snapshot, (before, now) in zip(snapshots, pairwise([chosen[0], *chosen]), strict=True):
        new = [old != name for old, name in zip(before, now, strict=True)]
        cells = (name + " *" * mark for name, mark in zip(now, new, strict=True))
        columns.append([str(snapshot.updates), *cells, str(sum(new))])
    padded = [[cell.ljust(max(map(len, column))) for cell in column] for column in columns]
    return "\n".join("  ".join(row).rstrip() for row in zip(*padded, strict=True))


def output_paths(checkpoints: list[str], output: str) -> list[Path]:
    """The genotype's file for each checkpoint: ``output`` itself, or files in that folder.

    Raises:
        InputError: ``output`` cannot be written, or two checkpoints would share a file.
    """
    folder = Path(output)
    if len(checkpoints) == 1 and not folder.is_dir():
        check_output(folder, checkpoints)
        return [folder]
    if folder.exists() and not folder.is_dir():
        raise InputError(f"-o {output}: is a file: several checkpoints need a folder")
    paths: dict[Path, str] = {}
    for checkpoint in checkpoints:
        path = folder / f"{Path(checkpoint).stem}.json"
        if path in paths:
            raise InputError(f"-o {output}: {paths[path]} and {checkpoint} would both be {path}")
        paths[path] = checkpoint
        if folder.is_dir():
            check_output(path, checkpoints)
    return list(paths)


def get_parser() -> CommandParser:
    parser = CommandParser(prog="dartsformer-derive", description=__doc__)
    parser.add_argument("checkpoints", nargs="+", metavar="CHECKPOINT")
    parser.add_argument(
        "-o",
        "--output",
        metavar="FILE_or_FOLDER",
        help="where to write the genotype: a folder for several checkpoints (default: print it)",
    )
    parser.add_argument(
        "--exclude",
        metavar="NAMES",
        help="operations never chosen, comma-separated, e.g. zero,identity (default: the search's "
        "--derive-exclude)",
    )
    parser.add_argument(
        "--top",
        type=positive_integer,
        metavar="N",
        help="show N operations a node, and the chosen one (default: all)",
    )
    return parser


def main(args: Namespace) -> None:
    """Read and derive everything, then write and report.

    Raises:
        InputError: an argument or a checkpoint is wrong; nothing was written.
    """
    exclude = None if args.exclude is None else read_names(args.exclude, "--exclude")
    paths = output_paths(args.checkpoints, args.output) if args.output else []
    snapshots = [load_snapshot(path) for path in args.checkpoints]
    genotypes = [derive(snapshot, exclude) for snapshot in snapshots]
    table = changes(snapshots, genotypes) if len(snapshots) > 1 else None
    for path, genotype in zip(paths, genotypes, strict=False):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"-o {path}: cannot be written: {error.strerror}") from error
        with replacing(path) as temporary:
            temporary.write_text(genotype.to_json() + "\n", encoding="utf-8")
    for snapshot in snapshots:
        print(report(snapshot, exclude, args.top), end="\n\n")
    if table:
        print(table, end="\n\n")
    for line in map("wrote {}".format, paths) if paths else map(Genotype.to_json, genotypes):
        print(line)


def cli_main() -> None:
    run_command(get_parser(), main)


if __name__ == "__main__":
    cli_main()
