"""A snapshot of a search: alpha and the search space, and the genotypes that follow from them."""

from argparse import Namespace
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from fairseq.models import ARCH_MODEL_NAME_REGISTRY
from torch import Tensor

from ..errors import InputError
from ..fairseq_patches import load_checkpoint
from ..models.option_checks import parse_operations
from ..operations import OPERATIONS_BY_STACK, describe_operations
from ..search_space.alpha import mixing_weights
from ..search_space.alpha_history import AlphaHistory, NodeHistory
from ..search_space.families import DARTSFORMER, FAMILIES, FIXED_OPERATION, Family
from ..search_space.genotype import Genotype
from ..search_space.sampling import Choice
from .registry import STRATEGIES

SKIPS = ("identity", "zero")  # the candidates that compute nothing


class SearchNode(NamedTuple):
    """A search node, counted from 0: its layer in the block, its row in alpha, its place in the
    genotype's layer, which may count a fixed node before it."""

    stack: str
    layer: int
    row: int
    place: int


@dataclass(frozen=True)
class Snapshot:
    """alpha and the search space at one moment of a search.

    Where the strategy does not learn alpha, only the search space means something.

    Attributes:
        path: of the checkpoint; named in errors.
        updates: of both levels, as fairseq counts them.
        pooling: of the supernet; ``None`` in a family without splits.
        candidates: by stack.
        alpha: by stack, `s × searched nodes × candidates`.
        family: of the supernet.
        strategy: name of the search strategy.
    """

    path: str
    updates: int
    pooling: str | None
    candidates: dict[str, tuple[str, ...]]
    alpha: dict[str, Tensor]
    family: Family = DARTSFORMER
    strategy: str = "darts"

    @property
    def learns_alpha(self) -> bool:
        """Whether alpha tells anything; assumed of the strategy of a plugin not loaded."""
        return self.strategy not in STRATEGIES or STRATEGIES[self.strategy].learns_alpha()

    @property
    def best(self) -> dict[str, str]:
        """The operation of largest alpha of every search node, by the node's name."""
        return {self.name(node): self.ranked(node)[0][0] for node in self.nodes()}

    @property
    def skips(self) -> dict[str, str]:
        """The nodes whose best operation computes nothing."""
        return {node: name for node, name in self.best.items() if name in SKIPS}

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


def load_snapshot(path: str) -> Snapshot:
    """Read alpha and the search space from a checkpoint.

    Raises:
        InputError: it cannot be read, is no checkpoint of a search, or its alpha is damaged.
    """
    return snapshot_of(load_checkpoint(path), path)


def snapshot_of(state: Mapping[str, Any], path: str) -> Snapshot:
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
    snapshot = Snapshot(path, updates, pooling, candidates, alpha, family, strategy)
    for node in snapshot.nodes():
        if not snapshot.alpha_of(node).isfinite().all():
            raise InputError(f"{path}: alpha of {snapshot.name(node)} is not finite")
    return snapshot


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


def history_of(snapshots: Iterable[Snapshot]) -> AlphaHistory:
    """alpha over time, from snapshots in any order; of several at the same update one counts.

    Raises:
        InputError: they are not of one search space, or their search did not learn alpha.
    """
    by_updates = {snapshot.updates: snapshot for snapshot in snapshots}
    ordered = [by_updates[updates] for updates in sorted(by_updates)]
    check_one_space(ordered)
    genotypes = [derive(snapshot) for snapshot in ordered]
    nodes = []
    for node in ordered[0].nodes():
        rankings = [dict(snapshot.ranked(node)) for snapshot in ordered]
        weights = {
            name: [ranking[name] for ranking in rankings]
            for name in ordered[0].candidates[node.stack]
        }
        chosen = [getattr(g, node.stack)[node.layer][node.place] for g in genotypes]
        nodes.append(NodeHistory(node.stack, node.layer, node.place, weights, chosen))
    return AlphaHistory(sorted(by_updates), nodes, ordered[0].family)


def check_one_space(snapshots: Sequence[Snapshot]) -> None:
    """Refuse checkpoints of different search spaces.

    Raises:
        InputError: two are.
    """
    first = snapshots[0]
    for snapshot in snapshots:
        spaces = [(s.family, s.pooling, s.candidates, list(s.nodes())) for s in (snapshot, first)]
        if spaces[0] != spaces[1]:
            raise InputError(
                f"{snapshot.path}: has another search space than {first.path}: expected "
                "checkpoints of one search"
            )


def derive(snapshot: Snapshot, exclude: Collection[str] = ()) -> Genotype:
    """Take every node's operation of largest alpha, bar the excluded ones (Eq. 2).

    Raises:
        InputError: ``exclude`` holds an unknown name, or every candidate of a stack; or the search
            did not learn alpha.
    """
    if not snapshot.learns_alpha:
        raise InputError(
            f"{snapshot.path}: is of a search by {snapshot.strategy}, which does not learn alpha: "
            "search its architectures with dartsformer-evolve"
        )
    for name in exclude:
        if name not in OPERATIONS_BY_STACK["decoder"]:
            raise InputError(
                f"--exclude: {name!r} is no operation: expected {describe_operations('decoder')}"
            )
    for stack, names in snapshot.candidates.items():
        if set(names) <= set(exclude):
            raise InputError(
                f"--exclude: leaves the {stack} of {snapshot.path} no candidate: it has "
                f"{', '.join(names)}"
            )
    chosen: dict[str, list[list[int]]] = {
        stack: [[] for _ in alpha] for stack, alpha in snapshot.alpha.items()
    }
    for node in snapshot.nodes():
        names = snapshot.candidates[node.stack]
        allowed = (name for name, _ in snapshot.ranked(node) if name not in exclude)
        chosen[node.stack][node.layer].append(names.index(next(allowed)))
    return snapshot.genotype(chosen)


def find_checkpoints(folder: Path) -> list[Path]:
    """The checkpoints in the save folder of a training, by name.

    Raises:
        InputError: there are none, or no such folder.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: is not a folder")
    paths = sorted(folder.glob("checkpoint*.pt"))
    if not paths:
        raise InputError(f"{folder}: holds no checkpoint: expected checkpoint*.pt files")
    return paths
