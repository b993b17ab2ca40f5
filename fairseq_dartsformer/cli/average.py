"""``dartsformer-average``: the mean of several checkpoints' weights, of any fairseq model."""

import re
from argparse import Namespace
from pathlib import Path
from typing import Any

import torch
from omegaconf import OmegaConf
from torch import Tensor

from ..errors import InputError
from ..fairseq_patches import load_checkpoint
from .command import CommandParser, check_output, positive_integer, replacing, run_command


def average(paths: list[str]) -> dict[str, Any]:
    """Average the weights of checkpoints; everything else is taken from the last one.

    Sums are float64 and cast back to the types of the last checkpoint. The optimizer's state is
    left out, since it does not fit the mean. One checkpoint at a time is in memory. Tied weights
    stay tied if their means are equal.

    Returns:
        the state of a checkpoint.

    Raises:
        InputError: a checkpoint cannot be read, or its parameters differ from the first one's.
    """
    sums: dict[str, Tensor] = {}
    shapes: dict[str, Any] = {}
    for path in paths:
        state = load_checkpoint(path)
        model = _model(state, path)
        shapes = shapes or _shapes(model)
        _check_same(shapes, _shapes(model), path, paths[0])
        for name, value in model.items():
            if _is_float(value):
                value = value.double()
                sums[name] = sums[name].add_(value) if name in sums else value.clone()
    means: dict[tuple, Tensor] = {}
    for name, value in model.items():
        if _is_float(value):
            mean = (sums.pop(name) / len(paths)).to(value.dtype)
            tied = means.setdefault((value.data_ptr(), value.shape, value.stride()), mean)
            model[name] = tied if torch.equal(tied, mean) else mean
    state.pop("last_optimizer_state", None)
    if OmegaConf.is_config(state.get("cfg")):  # plain types, as the trainer saves them
        state["cfg"] = OmegaConf.to_container(state["cfg"], resolve=True, enum_to_str=True)
    return state


def _is_float(value: Any) -> bool:
    return isinstance(value, Tensor) and value.is_floating_point()


def _model(state: dict[str, Any], path: str) -> dict[str, Any]:
    model = state.get("model")
    if not isinstance(model, dict):
        raise InputError(f"{path}: not a fairseq checkpoint: it has no model")
    return model


def _shapes(model: dict[str, Any]) -> dict[str, tuple[int, ...] | None]:
    return {k: tuple(v.shape) if _is_float(v) else None for k, v in model.items()}


def _check_same(expected: dict, found: dict, path: str, first: str) -> None:
    for name in [*expected, *found]:
        if name not in found or name not in expected:
            holder, other = (first, path) if name in expected else (path, first)
            raise InputError(f"{other}: has no parameter {name}, which {holder} has")
        if found[name] != expected[name]:
            raise InputError(
                f"{path}: {name} has shape {found[name]}: expected {expected[name]}, as in {first}"
            )


def last_checkpoints(folder: str, count: int) -> list[str]:
    """Find the ``count`` newest `checkpoint_EPOCH_UPDATES.pt`, or `checkpointEPOCH.pt` if there are
    none.

    Returns:
        their paths, oldest first.

    Raises:
        InputError: the folder does not exist or has too few checkpoints.
    """
    try:
        names = [path.name for path in Path(folder).iterdir()]
    except OSError as error:
        raise InputError(f"--last: {folder}: {error.strerror}: expected a folder") from None
    for pattern in (r"checkpoint_\d+_(\d+)\.pt", r"checkpoint(\d+)\.pt"):
        found = [(int(m[1]), m[0]) for m in (re.fullmatch(pattern, name) for name in names) if m]
        if found:
            break
    if len(found) < count:
        raise InputError(
            f"--last {count}: {folder} has {len(found)} checkpoints named "
            "checkpoint_EPOCH_UPDATES.pt or checkpointEPOCH.pt"
        )
    return [str(Path(folder, name)) for _, name in sorted(found)[-count:]]


def get_parser() -> CommandParser:
    parser = CommandParser(prog="dartsformer-average", description=__doc__)
    parser.add_argument(
        "checkpoints", nargs="+", metavar="CHECKPOINT", help="with --last: their folder"
    )
    parser.add_argument("-o", "--output", required=True, metavar="FILE")
    parser.add_argument(
        "--last",
        type=positive_integer,
        metavar="N",
        help="average the N newest checkpoints of a folder: those saved by updates if there are "
        "any, otherwise those saved by epoch",
    )
    return parser


def main(args: Namespace) -> None:
    """Average and write; a wrong argument or checkpoint raises an :class:`InputError` before
    anything is written."""
    paths, output = args.checkpoints, Path(args.output)
    if args.last is not None:
        if len(paths) != 1:
            raise InputError(f"--last {args.last}: expected one folder, not {len(paths)} paths")
        paths = last_checkpoints(paths[0], args.last)
    check_output(output, paths)
    state = average(paths)
    # torch writes the name of a file into it: an open file has none.
    with replacing(output) as temporary, temporary.open("wb") as file:
        torch.save(state, file)
    print("\n".join([f"averaged {len(paths)} checkpoints:", *paths, f"wrote {output}"]))


def cli_main() -> None:
    run_command(get_parser(), main)


if __name__ == "__main__":
    cli_main()
