"""What a search found: alpha and the search space read from a checkpoint, and genotypes by them."""

from argparse import Namespace
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from fairseq.models import ARCH_MODEL_NAME_REGISTRY
from torch import Tensor

from .compat import load_checkpoint
from .errors import InputError
from .families import DARTSFORMER, FAMILIES, FIXED_OPERATION, Family
from .genotype import Genotype
from .models.checks import parse_operations
from .operations import OPERATIONS_BY_STACK, describe_operations
from .search_space import Choice, mixing_weights
from .strategies import STRATEGIES


class SearchNode(NamedTuple):
    """A search node, counted from 0: its layer in the block, its row in alpha, its place in the
    genotype's layer, which may count a fixed node before it."""

    stack: str
    layer: int
    row: int
    place: int


@dataclass(frozen=True)
class SearchResult:
    """What derivation needs of one search checkpoint; of one whose strategy does not learn alpha,
    the search space alone tells something."""

    path: str
    updates: int  # of both levels, as fairseq counts them
    pooling: str | None
    candidates: dict[str, tuple[str, ...]]  # by stack
    alpha: dict[str, Tensor]  # by stack, s × searched nodes × candidates
    family: Family = DARTSFORMER
    strategy: str = "darts"

    def nodes(self) -> Iterator[SearchNode]:
        """Every search node, in the order of the network."""
        for stack, alpha in self.alpha.items():
            places = self.family.with_fixed(stack, list(range(alpha.size(1))), None)
            for layer in range(alpha.size(0)):
                for place, row in enumerate(places):
                    if row is not None:
                        yield SearchNode(stack, layer, row, place)

    def name(self, node: SearchNode) -> str:
        """A node as users read it: counted from 1, as the paper counts."""
        return f"{node.stack} layer {node.layer + 1} {self.family.node} {node.place + 1}"

    def alpha_of(self, node: SearchNode) -> Tensor:
        """The node's alpha, one number a candidate."""
        return self.alpha[node.stack][node.layer, node.row]

    def genotype(self, choice: Choice) -> Genotype:
        """The architecture in which every search node is the chosen one of its candidates.

        Raises:
            InputError: it cannot be one, as of a checkpoint with odd options.
        """
        blocks = (
            [
                self.family.with_fixed(
                    stack, [self.candidates[stack][o] for o in layer], FIXED_OPERATION
                )
                for layer in choice[stack]
            ]
            for stack in OPERATIONS_BY_STACK
        )
        try:
            return Genotype(*blocks, self.pooling, self.family.name)
        except InputError as error:
            raise InputError(f"{self.path}: {error}") from None

    def ranked(self, node: SearchNode) -> list[tuple[str, float]]:
        """A node's candidates with their mixing weights, the largest alpha first.

        Of equals the first in the order of the candidates stands first.
        """
        alpha = self.alpha_of(node)
        weights = mixing_weights(alpha).tolist()
        order = sorted(range(len(weights)), key=lambda o: -alpha[o].item())
        return [(self.candidates[node.stack][o], weights[o]) for o in order]


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
    model, cfg, name, updates, strategy = _parts(state, path)
    base = ARCH_MODEL_NAME_REGISTRY.get(name, name)  # of an architecture's name, maybe a plugin's
    family = next((f for f in FAMILIES.values() if base.startswith(f.supernet)), None)
    if family is None:
        what = "a derived model's" if base.startswith(tuple(FAMILIES)) else f"a {name} model's"
        supernets = " or ".join(f.supernet for f in FAMILIES.values())
        raise InputError(
            f"{path}: is {what} checkpoint: expected one of the search ({supernets}), "
            "which alone holds alpha"
        )
    candidates, alpha = {}, {}
    for stack in OPERATIONS_BY_STACK:
        candidates[stack] = parse_operations(cfg.get(f"{stack}_operations"), stack)
        alpha[stack] = _alpha(model, cfg, stack, family, len(candidates[stack]), path)
    pooling = str(cfg.get("pooling")) if family.pooled else None
    result = SearchResult(path, updates, pooling, candidates, alpha, family, strategy)
    for node in result.nodes():
        if not result.alpha_of(node).isfinite().all():
            raise InputError(f"{path}: alpha of {result.name(node)} is not finite")
    return result


def _parts(state: Mapping[str, Any], path: str) -> tuple[dict, Mapping[str, Any], str, int, str]:
    """The weights, the model's options and name, the updates and the strategy, in fairseq's
    layout."""
    try:
        cfg = state["cfg"]["model"]
        cfg = vars(cfg) if isinstance(cfg, Namespace) else cfg
        updates = int(state["optimizer_history"][-1]["num_updates"])
        strategy = str((state["cfg"].get("task") or {}).get("search_strategy", "darts"))
        return dict(state["model"]), cfg, str(cfg.get("_name")), updates, strategy
    except (AttributeError, TypeError, KeyError, IndexError, ValueError) as error:
        raise InputError(f"{path}: is not a checkpoint as fairseq writes it ({error!r})") from error


def _alpha(
    model: dict[str, Any],
    cfg: Mapping[str, Any],
    stack: str,
    family: Family,
    candidates: int,
    path: str,
) -> Tensor:
    """alpha of one stack on the CPU, checked against the options it was searched with."""
    key = f"{stack}.alpha"
    alpha = model.get(key)
    if not isinstance(alpha, Tensor) or not alpha.is_floating_point():
        raise InputError(f"{path}: holds no {key}: expected a tensor of floats")
    searched = family.nodes["encoder"]  # as many in the decoder, beside its fixed one
    if searched is None:
        searched = cfg.get("encoder_splits")
        if stack == "decoder" and cfg.get("decoder_splits"):
            searched = cfg["decoder_splits"] - 1
    expected = (cfg.get("search_layers"), searched, candidates)
    fits = alpha.dim() == 3 and all(
        wanted in (None, size) for wanted, size in zip(expected, alpha.shape, strict=True)
    )
    if not fits or alpha.numel() == 0:
        raise InputError(
            f"{path}: {key} has shape {tuple(alpha.shape)}: expected {expected} (search layers, "
            f"searched {family.node}s, candidates) by the options stored with it"
        )
    return alpha.detach().cpu()


def check_one_space(results: Sequence[SearchResult]) -> None:
    """Refuse checkpoints of different search spaces.

    Raises:
        InputError: two are.
    """
    first = results[0]
    for result in results:
        spaces = [(r.family, r.pooling, r.candidates, list(r.nodes())) for r in (result, first)]
        if spaces[0] != spaces[1]:
            raise InputError(
                f"{result.path}: has another search space than {first.path}: expected checkpoints "
                "of one search"
            )


def derive(result: SearchResult, exclude: Collection[str] = ()) -> Genotype:
    """Take every node's operation of largest alpha, bar the excluded ones (Eq. 2).

    Raises:
        InputError: ``exclude`` holds an unknown name, or every candidate of a stack; or the search
            did not learn alpha.
    """
    if result.strategy in STRATEGIES and not STRATEGIES[result.strategy].learns_alpha():
        raise InputError(
            f"{result.path}: is of a search by {result.strategy}, which does not learn alpha: "
            "search its architectures with dartsformer-evolve"
        )
    for name in exclude:
        if name not in OPERATIONS_BY_STACK["decoder"]:
            raise InputError(
                f"--exclude: {name!r} is no operation: expected {describe_operations('decoder')}"
            )
    for stack, names in result.candidates.items():
        if set(names) <= set(exclude):
            raise InputError(
                f"--exclude: leaves the {stack} of {result.path} no candidate: it has "
                f"{', '.join(names)}"
            )
    chosen: dict[str, list[list[int]]] = {
        stack: [[] for _ in alpha] for stack, alpha in result.alpha.items()
    }
    for node in result.nodes():
        names = result.candidates[node.stack]
        allowed = (name for name, _ in result.ranked(node) if name not in exclude)
        chosen[node.stack][node.layer].append(names.index(next(allowed)))
    return result.genotype(chosen)
