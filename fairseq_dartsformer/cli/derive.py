"""``dartsformer-derive``: derive genotypes from search checkpoints, by alpha (Eq. 2) or by
perturbation."""

import math
import sys
from argparse import Namespace
from collections.abc import Collection, Mapping, Sequence
from dataclasses import fields
from itertools import pairwise
from pathlib import Path

import torch
from tqdm import tqdm

from ..errors import InputError, flag
from ..evolution.perturbation import Perturbation, PerturbationConfig
from ..evolution.scoring import ScoreConfig, Scorer
from ..search.history import check_one_space
from ..search.options import read_names
from ..search.snapshot import SearchNode, Snapshot, derive, load_snapshot
from ..search_space.alpha import entropy
from ..search_space.families import FIXED_OPERATION
from ..search_space.genotype import Genotype
from .command import (
    CommandParser,
    check_output,
    number,
    positive_integer,
    replacing,
    run_command,
    whole_number,
)
from .evolve import SCORES_A_LINE, devices_of

# Of --selection perturbation alone.
PERTURBATION_OPTIONS = ("data", *(field.name for field in fields(PerturbationConfig)))

# By search node, the validation loss without each candidate.
Losses = Mapping[SearchNode, Mapping[str, float]]


def report(
    snapshot: Snapshot,
    exclude: Collection[str] | None = None,
    top: int | None = None,
    losses: Losses | None = None,
) -> str:
    """List each node with its choice, margin, entropy in nats, and operations by mixing weight.

    Args:
        snapshot: alpha and the search space.
        exclude: operations that are not chosen, by default the search's own; the margin is between
            the best two of the others.
        top: number of operations to show beside the chosen one; all by default.
        losses: of a selection by perturbation, by whose losses the node's operation is chosen.
    """
    exclude = snapshot.exclude if exclude is None else exclude
    pooling = f", {snapshot.pooling} pooling" if snapshot.family.pooled else ""
    norm = f", norm {snapshot.norm}" if snapshot.norm != "post" else ""
    lines = [f"{snapshot.path}: {snapshot.updates} updates{pooling}{norm}"]
    for node in snapshot.nodes():
        ranked = snapshot.ranked(node)
        allowed = [(name, weight) for name, weight in ranked if name not in exclude]
        without = losses[node] if losses else {}
        if without:
            chosen = max(without, key=without.__getitem__)
            best, second, *_ = sorted(without.values(), reverse=True)
            margin = f"{best - second:.6f} bits"
        else:
            chosen = allowed[0][0]
            margin = f"{allowed[0][1] - allowed[1][1]:.6f}" if len(allowed) > 1 else "none"
        nats = entropy(snapshot.weights_of(node)).item()
        lines.append(
            f"{snapshot.name(node)}: {chosen}, margin {margin}, "
            f"entropy {nats:.3f} of at most {math.log(len(ranked)):.3f}"
        )
        for place, (name, weight) in enumerate(ranked):
            if top is None or place < top or name == chosen:
                note = " (excluded)" if name in exclude else ""
                if name in without:
                    note = f", loss without it {without[name]:.6f}"
                lines.append(f"  {weight:.6f} {name}{note}")
        after = node._replace(place=node.place + 1)
        nodes = snapshot.alpha[node.stack].size(1) + 1
        if snapshot.family.is_fixed(node.stack, after.place, nodes):
            lines.append(f"{snapshot.name(after)}: {FIXED_OPERATION}, fixed")
    return "\n".join(lines)


def changes(snapshots: Sequence[Snapshot], genotypes: Sequence[Genotype]) -> str:
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
    add = parser.add_argument
    add(
        "--selection",
        choices=["argmax", "perturbation"],
        default="argmax",
        help="the largest alpha, or the operation without which the validation loss of the "
        "supernet is largest, node by node (default: %(default)s)",
    )
    of = "for perturbation: "
    add("--data", metavar="DATA", help=f"{of}binarised, as for the search")
    default = PerturbationConfig()
    seed = f"{of}of the nodes' order and of tuning (default: {default.seed})"
    add("--seed", type=whole_number(0, 2**31), metavar="N", help=seed)
    updates = f"{of}updates of the weights between two nodes (default: {default.tune_updates})"
    add("--tune-updates", type=whole_number(0), metavar="N", help=updates)
    rate = f"{of}learning rate of these updates (default: {default.tune_lr})"
    add("--tune-lr", type=_learning_rate, metavar="LR", help=rate)
    score = "print the genotype's validation loss with the checkpoint's weights, on these data"
    add("--score", metavar="DATA", help=score)
    split = "for --data and --score: split to validate on (default: %(default)s)"
    add("--valid-subset", metavar="NAME", default=ScoreConfig.valid_subset, help=split)
    tokens = "of a batch, with padding (default: %(default)s)"
    add("--max-tokens", type=positive_integer, metavar="N", default=5000, help=tokens)
    add("--fp16", action="store_true", help="validate in half precision")
    add("--cpu", action="store_true", help="use no GPU")
    return parser


def _learning_rate(text: str) -> float:
    return number(text, float, lambda value: 0 < value < math.inf, "above 0")


def check_options(args: Namespace) -> PerturbationConfig:
    """Read the settings of a selection by perturbation; raise an :class:`InputError` if options do
    not go together."""
    given = {name: getattr(args, name) for name in PERTURBATION_OPTIONS}
    given = {name: value for name, value in given.items() if value is not None}
    if args.selection == "perturbation":
        if "data" not in given:
            raise InputError("--selection perturbation needs --data: binarised, as for the search")
        if args.fp16 and args.tune_updates:
            raise InputError(
                f"--tune-updates is {args.tune_updates}: tuning needs single precision, without "
                "--fp16"
            )
        del given["data"]
        return PerturbationConfig(**given)
    for name, value in given.items():
        raise InputError(
            f"{flag(name)} is {value}: it is an option of --selection perturbation, not of "
            f"{args.selection}"
        )
    return PerturbationConfig()


def scorer_of(checkpoint: str, data: str, args: Namespace) -> Scorer:
    """The supernet and its validation data, on one device."""
    torch.set_num_threads(1)  # results do not depend on the number of cores
    cfg = ScoreConfig(checkpoint, data, args.valid_subset, args.max_tokens, fp16=args.fp16)
    device, *_ = devices_of(Namespace(**vars(args), workers=1))
    return Scorer(cfg, device)


def perturb(
    checkpoint: str, exclude: Collection[str] | None, cfg: PerturbationConfig, args: Namespace
) -> tuple[Genotype, Losses]:
    """Select by perturbation, and show how far the selection is."""
    if args.score:
        scorer_of(checkpoint, args.score, args)  # reports wrong data before a long selection
    selection = Perturbation(scorer_of(checkpoint, args.data, args), exclude, cfg)
    total = selection.validations
    # Without a terminal, a line now and then replaces the bar.
    bar = tqdm(selection.run(), checkpoint, total, leave=False, disable=None)
    for count, _ in enumerate(bar, 1):
        if bar.disable and count % SCORES_A_LINE == 0:
            print(f"{checkpoint}: {count} of {total} scored", file=sys.stderr, flush=True)
    return selection.genotype, selection.losses


def score(checkpoint: str, genotype: Genotype, args: Namespace) -> str:
    """A line with the validation loss of a genotype, with the checkpoint's weights."""
    scorer = scorer_of(checkpoint, args.score, args)
    loss = scorer.score(scorer.architecture(genotype))
    return f"{checkpoint}: loss {loss:.4f} on {args.valid_subset}"


def main(args: Namespace) -> None:
    """Read and derive everything, then write and report.

    Raises:
        InputError: an argument or a checkpoint is wrong; nothing was written.
    """
    settings = check_options(args)
    exclude = None if args.exclude is None else read_names(args.exclude, "--exclude")
    paths = output_paths(args.checkpoints, args.output) if args.output else []
    snapshots = [load_snapshot(path) for path in args.checkpoints]
    genotypes = [derive(snapshot, exclude) for snapshot in snapshots]
    check_one_space(snapshots)
    losses: Sequence[Losses | None] = [None] * len(snapshots)
    if args.selection == "perturbation":
        selected = [perturb(path, exclude, settings, args) for path in args.checkpoints]
        genotypes, losses = zip(*selected, strict=True)
    table = changes(snapshots, genotypes) if len(snapshots) > 1 else None
    pairs = zip(args.checkpoints, genotypes, strict=True)
    scores = [score(*pair, args) for pair in pairs] if args.score else []
    for path, genotype in zip(paths, genotypes, strict=False):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"-o {path}: cannot be written: {error.strerror}") from error
        with replacing(path) as temporary:
            temporary.write_text(genotype.to_json() + "\n", encoding="utf-8")
    for snapshot, found in zip(snapshots, losses, strict=True):
        print(report(snapshot, exclude, args.top, found), end="\n\n")
    if table:
        print(table, end="\n\n")
    if scores:
        print("\n".join(scores), end="\n\n")
    for line in map("wrote {}".format, paths) if paths else map(Genotype.to_json, genotypes):
        print(line)


def cli_main() -> None:
    run_command(get_parser(), main)


if __name__ == "__main__":
    cli_main()
