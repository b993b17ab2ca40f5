"""What a search found: alpha read from a checkpoint, and the genotype derived from it (Eq. 2)."""

from argparse import Namespace
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from .compat import load_checkpoint
from .errors import InputError
from .genotype import FIXED_OPERATION, Genotype
from .models.checks import parse_operations
from .operations import DECODER_OPERATIONS, ENCODER_OPERATIONS
from .search_space import mixing_weights

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


def read_search_result(path: str) -> SearchResult:
    """Take alpha and the search space from a checkpoint.

    Raises:
        InputError: it cannot be read, is no checkpoint of a search, or its alpha is damaged.
    """
    return search_result(load_checkpoint(path), path)


def search_result(state: Mapping[str, Any], path: str) -> SearchResult:
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
