"""``dartsformer-derive``: from the alpha of search checkpoints to genotypes (Eq. 2)."""

import argparse
import math
from argparse import Namespace
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from torch import Tensor

from ..compat import load_checkpoint
from ..errors import InputError
from ..genotype import FIXED_OPERATION, Genotype
from ..models.checks import parse_operations
from ..operations import DECODER_OPERATIONS, ENCODER_OPERATIONS
from ..search_space import entropy, mixing_weights
from . import check_output, positive_integer, replacing, run_command

SUPERNET = "dartsformer_search"
STACKS = {"encoder": ENCODER_OPERATIONS, "decoder": DECODER_OPERATIONS}


@dataclass(frozen=True)
class SearchResult:
    """What derivation needs of one search checkpoint."""

    path: str
    updates: int  # of both levels, as fairseq counts them
    pooling: str
    candidates: dict[str, tuple[str, ...]]  # by stack
    alpha: dict[str, Tensor]  # by stack, s × searched splits × candidates

    def nodes(self) -> Iterator[tuple[str, int, int]]:
        """Every search node as its stack, layer and split, counted from 0."""
        for stack, alpha in self.alpha.items():
            for layer in range(alpha.size(0)):
                for split in range(alpha.size(1)):
                    yield stack, layer, split

    def ranked(self, stack: str, layer: int, split: int) -> list[tuple[str, float]]:
        """A node's candidates with their mixing weights, the largest alpha first.

        Of equals the first in the order of the candidates stands first.
        """
        alpha = self.alpha[stack][layer, split]
        weights = mixing_weights(alpha).tolist()
        order = sorted(range(len(weights)), key=lambda o: -alpha[o].item())
        return [(self.candidates[stack][o], weights[o]) for o in order]


def alphas_of(state: Mapping[str, Any], path: str) -> SearchResult:
    """Take alpha and the search space from a loaded checkpoint; ``path`` is named in errors.

    Raises:
        InputError: it is no checkpoint of a search, or its alpha is damaged.
    """
    model, cfg, name, updates = _parts(state, path)
    if not name.startswith(SUPERNET):
        what = "a derived model's" if name.startswith("dartsformer") else f"a {name} model's"
        raise InputError(
            f"{path}: is {what} checkpoint: expected one of the search ({SUPERNET}), "
            "which alone holds alpha"
        )
    candidates, alpha = {}, {}
    for stack, operations in STACKS.items():
        option = f"{stack}_operations"
        candidates[stack] = parse_operations(cfg.get(option), option, operations)
        alpha[stack] = _alpha(model, cfg, stack, candidates[stack], path)
    return SearchResult(path, updates, str(cfg.get("pooling")), candidates, alpha)


def _parts(state: Mapping[str, Any], path: str) -> tuple[dict, Mapping[str, Any], str, int]:
    """The weights, the model's options and name, and the updates, in fairseq's layout."""
    try:
        cfg = state["cfg"]["model"]
        cfg = vars(cfg) if isinstance(cfg, Namespace) else cfg
        updates = int(state["optimizer_history"][-1]["num_updates"])
        return dict(state["model"]), cfg, str(cfg.get("_name")), updates
    except (AttributeError, TypeError, KeyError, IndexError, ValueError) as error:
        raise InputError(f"{path}: is not a checkpoint as fairseq writes it ({error!r})") from error


def _alpha(
    model: dict[str, Any],
    cfg: Mapping[str, Any],
    stack: str,
    candidates: tuple[str, ...],
    path: str,
) -> Tensor:
    """alpha of one stack on the CPU, checked against the options it was searched with."""
    key = f"{stack}.alpha"
    alpha = model.get(key)
    if not isinstance(alpha, Tensor) or not alpha.is_floating_point():
        raise InputError(f"{path}: holds no {key}: expected a tensor of floats")
    splits = cfg.get("encoder_splits")
    if stack == "decoder":  # its last split is not searched, and by default it has one more
        splits = cfg["decoder_splits"] - 1 if cfg.get("decoder_splits") else splits
    expected = (cfg.get("search_layers"), splits, len(candidates))
    fits = alpha.dim() == 3 and all(
        wanted in (None, size) for wanted, size in zip(expected, alpha.shape, strict=True)
    )
    if not fits or alpha.numel() == 0:
        raise InputError(
            f"{path}: {key} has shape {tuple(alpha.shape)}: expected {expected} (search layers, "
            f"searched splits, candidates) by the options stored with it"
        )
    bad = (~alpha.isfinite()).nonzero().tolist()
    if bad:
        layer, split, _ = bad[0]
        raise InputError(f"{path}: alpha of {node_name(stack, layer, split)} is not finite")
    return alpha.detach().cpu()


def node_name(stack: str, layer: int, split: int) -> str:
    """A node as users read it: counted from 1, as the paper counts."""
    return f"{stack} layer {layer + 1} split {split + 1}"


def derive(result: SearchResult, exclude: Collection[str] = ()) -> Genotype:
    """Take every node's operation of largest alpha, bar the excluded ones (Eq. 2).

    Raises:
        InputError: ``exclude`` holds an unknown name, or every candidate of a stack.
    """
    for name in exclude:
        if name not in DECODER_OPERATIONS:
            raise InputError(
                f"--exclude: {name!r} is no operation: expected {', '.join(DECODER_OPERATIONS)}"
            )
    for stack, names in result.candidates.items():
        if set(names) <= set(exclude):
            raise InputError(
                f"--exclude: leaves the {stack} of {result.path} no candidate: it has "
                f"{', '.join(names)}"
            )
    blocks = {stack: [[] for _ in alpha] for stack, alpha in result.alpha.items()}
    for stack, layer, split in result.nodes():
        allowed = (o for o, _ in result.ranked(stack, layer, split) if o not in exclude)
        blocks[stack][layer].append(next(allowed))
    for layer in blocks["decoder"]:
        layer.append(FIXED_OPERATION)
    try:
        return Genotype(blocks["encoder"], blocks["decoder"], result.pooling)
    except InputError as error:
        raise InputError(f"{result.path}: {error}") from None


def report(result: SearchResult, exclude: Collection[str] = (), top: int | None = None) -> str:
    """Every node: choice, margin over the runner-up, entropy in nats, operations by weight.

    The margin is a difference of mixing weights among the operations not excluded. ``top`` shows
    that many operations a node.
    """
    lines = [f"{result.path}: {result.updates} updates, {result.pooling} pooling"]
    for stack, layer, split in result.nodes():
        ranked = result.ranked(stack, layer, split)
        allowed = [(name, weight) for name, weight in ranked if name not in exclude]
        margin = f"{allowed[0][1] - allowed[1][1]:.6f}" if len(allowed) > 1 else "none"
        nats = entropy(result.alpha[stack][layer, split]).item()
        lines.append(
            f"{node_name(stack, layer, split)}: {allowed[0][0]}, margin {margin}, "
            f"entropy {nats:.3f} of at most {math.log(len(ranked)):.3f}"
        )
        for name, weight in ranked[:top]:
            lines.append(f"  {weight:.6f} {name}{' (excluded)' if name in exclude else ''}")
        if stack == "decoder" and split == result.alpha[stack].size(1) - 1:
            lines.append(f"{node_name(stack, layer, split + 1)}: {FIXED_OPERATION}, fixed")
    return "\n".join(lines)


def changes(results: list[SearchResult], genotypes: list[Genotype]) -> str:
    """A table: a row for every node, a column for every checkpoint, ``*`` where a choice is new.

    Raises:
        InputError: the checkpoints are not of one search space.
    """
    first = results[0]
    for result in results:
        if (result.pooling, result.candidates, list(result.nodes())) != (
            first.pooling,
            first.candidates,
            list(first.nodes()),
        ):
            raise InputError(
                f"{result.path}: has another search space than {first.path}: derive them apart"
            )
    nodes = list(first.nodes())
    chosen = [[getattr(g, stack)[i][k] for stack, i, k in nodes] for g in genotypes]
    columns = [["updates", *(node_name(*node) for node in nodes), "changed"]]
    for result, (before, now) in zip(results, pairwise([chosen[0], *chosen]), strict=True):
        new = [old != name for old, name in zip(before, now, strict=True)]
        cells = (name + " *" * mark for name, mark in zip(now, new, strict=True))
        columns.append([str(result.updates), *cells, str(sum(new))])
    padded = [[cell.ljust(max(map(len, column))) for cell in column] for column in columns]
    return "\n".join("  ".join(row).rstrip() for row in zip(*padded, strict=True))


def output_paths(checkpoints: list[str], output: str) -> list[Path]:
    """The genotype's file for every checkpoint: ``output``, or in that folder by their names.

    Raises:
        InputError: ``output`` does not do, or two checkpoints would share a file.
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


def get_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="dartsformer-derive", description=__doc__)
    parser.add_argument("checkpoints", nargs="+", metavar="CHECKPOINT")
    parser.add_argument(
        "-o",
        "--output",
        metavar="FILE_or_FOLDER",
        help="where the genotype goes: a folder for several checkpoints; printed when not given",
    )
    parser.add_argument(
        "--exclude",
        default="",
        metavar="NAMES",
        help="operations never chosen, comma-separated, e.g. zero,identity",
    )
    parser.add_argument(
        "--top", type=positive_integer, metavar="N", help="show N operations a node (default: all)"
    )
    return parser


def main(args: Namespace) -> None:
    """Read and derive everything, report, and only then write.

    Raises:
        InputError: an argument or a checkpoint is at fault; nothing has been written then.
    """
    exclude = [name.strip() for name in args.exclude.split(",") if name.strip()]
    paths = output_paths(args.checkpoints, args.output) if args.output else []
    results = [alphas_of(load_checkpoint(path), path) for path in args.checkpoints]
    genotypes = [derive(result, exclude) for result in results]
    table = changes(results, genotypes) if len(results) > 1 else None
    for result in results:
        print(report(result, exclude, args.top), end="\n\n")
    if table:
        print(table, end="\n\n")
    for i, genotype in enumerate(genotypes):
        if paths:
            write(paths[i], genotype)
            print(f"wrote {paths[i]}")
        else:
            print(genotype.to_json())


def write(path: Path, genotype: Genotype) -> None:
    """Write a genotype, making its folder.

    Raises:
        InputError: it cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"-o {path}: cannot be written: {error.strerror}") from error
    with replacing(path) as temporary:
        temporary.write_text(genotype.to_json() + "\n", encoding="utf-8")


def cli_main() -> None:
    run_command(get_parser(), main)


if __name__ == "__main__":
    cli_main()
