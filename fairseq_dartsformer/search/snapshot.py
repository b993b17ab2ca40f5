"""A snapshot of a search: alpha and the search space, and the genotypes derived from them."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import torch
from fairseq.models import ARCH_MODEL_NAME_REGISTRY
from torch import Tensor

from ..errors import InputError
from ..fairseq_patches import load_checkpoint
from ..models.checkpoint_checks import options_of
from ..models.option_checks import parse_operations
from ..search_space.families import DARTSFORMER, FAMILIES, FIXED_OPERATION, Family
from ..search_space.genotype import Genotype
from ..search_space.relaxation import Relaxation, softmax
from ..search_space.sampling import Choice, best_candidates
from .options import read_names
from .registry import STRATEGIES
from .strategy import SearchStrategy

SKIPS = ("identity", "zero")  # the candidates that compute nothing


class SearchNode(NamedTuple):
    """A search node, with indices from 0: its layer in the block, its row in alpha, and its place
    in the genotype's layer, where a fixed node may come before it."""

    stack: str
    layer: int
    row: int
    place: int


@dataclass(frozen=True)
class Snapshot:
    """alpha and the search space at one moment of a search.

    alpha is meaningless if the strategy does not learn it.

    Attributes:
        path: path of the checkpoint, for errors.
        updates: number of updates of both levels.
        pooling: the supernet's pooling; ``None`` in a family without splits.
        candidates: names of the operations, by stack.
        alpha: by stack, `s × searched nodes × candidates`.
        family: the supernet's family.
        strategy: name of the search strategy.
        remaining: by stack a mask, shaped like alpha, of the candidates that have not been pruned;
            empty before any were.
        relaxation: how the strategy turns alpha into mixing weights.
        exclude: operations that are not chosen (``--derive-exclude``).
        norm: residual and norm of the operations (``--operation-norm``).
    """

    path: str
    updates: int
    pooling: str | None
    candidates: dict[str, tuple[str, ...]]
    alpha: dict[str, Tensor]
    family: Family = DARTSFORMER
    strategy: str = "darts"
    remaining: Mapping[str, Tensor] = field(default_factory=dict)
    relaxation: Relaxation = softmax
    exclude: tuple[str, ...] = ()
    norm: str = "post"

    @property
    def learns_alpha(self) -> bool:
        """Whether the strategy learns alpha; assumed if it belongs to a plugin not loaded."""
        return self.strategy not in STRATEGIES or STRATEGIES[self.strategy].learns_alpha()

    @property
    def best(self) -> dict[str, str]:
        """The operation that is derived from alpha, by the name of the search node; an excluded one
        where no others remain."""
        choice = self.best_choice(self.exclude)
        return {
            self.name(n): self.candidates[n.stack][choice[n.stack][n.layer][n.row]]
            for n in self.nodes()
        }

    @property
    def skips(self) -> dict[str, str]:
        """The subset of :attr:`best` whose operations compute nothing."""
        return {node: name for node, name in self.best.items() if name in SKIPS}

    @cached_property
    def weights(self) -> dict[str, Tensor]:
        """The mixing weights, by stack, shaped like alpha."""
        return {s: self.relaxation(a, self.remaining.get(s)) for s, a in self.alpha.items()}

    def nodes(self) -> Iterator[SearchNode]:
        """Every search node, in the order of the network."""
        for stack, alpha in self.alpha.items():
            places = self.family.with_fixed(stack, list(range(alpha.size(1))), None)
            for layer in range(alpha.size(0)):
                for place, row in enumerate(places):
                    if row is not None:
                        yield SearchNode(stack, layer, row, place)

    def name(self, node: SearchNode) -> str:
        """The node's name for users, counted from 1 as in the paper."""
        return f"{node.stack} layer {node.layer + 1} {self.family.node} {node.place + 1}"

    def alpha_of(self, node: SearchNode) -> Tensor:
        """The node's alpha, one number per candidate."""
        return self.alpha[node.stack][node.layer, node.row]

    def weights_of(self, node: SearchNode) -> Tensor:
        """The node's mixing weights, one per candidate."""
        return self.weights[node.stack][node.layer, node.row]

    def scores(self, stack: str) -> Tensor:
        """alpha of a stack, minus infinity where pruned."""
        alpha, remaining = self.alpha[stack], self.remaining.get(stack)
        return alpha if remaining is None else alpha.masked_fill(~remaining, -torch.inf)

    @property
    def active(self) -> dict[str, list[list[list[int]]]]:
        """The candidates that have not been pruned, by stack, layer and search node."""
        return {
            stack: [
                [row.isfinite().nonzero().flatten().tolist() for row in layer]
                for layer in self.scores(stack)
            ]
            for stack in self.alpha
        }

    def best_choice(self, exclude: Collection[str]) -> Choice:
        """Choose the candidate with the largest alpha for every search node (Eq. 2); one of
        ``exclude`` only where no others remain."""
        return {
            stack: best_candidates(self.scores(stack), names, exclude).tolist()
            for stack, names in self.candidates.items()
        }

    def choice(self, candidates: Mapping[SearchNode, int]) -> Choice:
        """Arrange the index of each search node's candidate in the form that the supernet takes."""
        choice = {
            stack: [[0] * alpha.size(1) for _ in alpha] for stack, alpha in self.alpha.items()
        }
        for node, o in candidates.items():
            choice[node.stack][node.layer][node.row] = o
        return choice

    def genotype(self, choice: Choice) -> Genotype:
        """Build the genotype in which every search node is the chosen candidate; raise an
        :class:`InputError` if the checkpoint's options do not make a valid one."""
        blocks = {}
        for stack, names in self.candidates.items():
            searched = ([names[o] for o in layer] for layer in choice[stack])
            blocks[stack] = [self.family.with_fixed(stack, s, FIXED_OPERATION) for s in searched]
        pooling, family = self.pooling, self.family.name
        try:
            return Genotype(**blocks, pooling=pooling, family=family, norm=self.norm)
        except InputError as error:
            raise InputError(f"{self.path}: {error}") from None

    def find(self, genotype: Genotype) -> Choice | None:
        """The choice of which :meth:`genotype` makes this genotype, ``None`` if there is none."""
        try:
            found = self.choice(
                {
                    node: self.candidates[node.stack].index(
                        genotype.blocks[node.stack][node.layer][node.place]
                    )
                    for node in self.nodes()
                }
            )
        except (KeyError, IndexError, ValueError):
            return None
        return found if self.genotype(found) == genotype else None

    def ranked(self, node: SearchNode) -> list[tuple[str, float]]:
        """A node's candidates with their mixing weights, by decreasing alpha, pruned ones last;
        ties keep the candidates' order."""
        scores = self.scores(node.stack)[node.layer, node.row].tolist()
        weights = self.weights_of(node).tolist()
        order = sorted(range(len(weights)), key=lambda o: -scores[o])
        return [(self.candidates[node.stack][o], weights[o]) for o in order]


def load_snapshot(path: str) -> Snapshot:
    """Read alpha and the search space from a checkpoint.

    Raises:
        InputError: the file cannot be read, or is not a checkpoint of a search with a valid alpha.
    """
    return snapshot_of(load_checkpoint(path), path)


def snapshot_of(state: Mapping[str, Any], path: str) -> Snapshot:
    """As :func:`load_snapshot`, from a loaded checkpoint; errors name ``path``."""
    try:
        cfg = options_of(state["cfg"]["model"])
        model = dict(state["model"])
        updates = int(state["optimizer_history"][-1]["num_updates"])
        task = options_of(state["cfg"].get("task") or {})
    except (AttributeError, TypeError, KeyError, IndexError, ValueError) as error:
        raise InputError(f"{path}: is not a checkpoint as fairseq writes it ({error!r})") from error
    snapshot = take_snapshot(cfg, task, model, updates, path)
    for node in snapshot.nodes():
        if not snapshot.alpha_of(node).isfinite().all():
            raise InputError(f"{path}: alpha of {snapshot.name(node)} is not finite")
    return snapshot


def take_snapshot(
    cfg: Mapping[str, Any],
    task: Mapping[str, Any],
    model: Mapping[str, Any],
    updates: int,
    path: str,
) -> Snapshot:
    """Create a snapshot of a supernet, given its options, the task's, and tensors by name.

    Raises:
        InputError: the model is not a supernet, or its alpha does not match its options.
    """
    name = str(cfg.get("_name"))
    base = ARCH_MODEL_NAME_REGISTRY.get(name, name)  # a plugin may have named an architecture
    family = next((f for f in FAMILIES.values() if base.startswith(f.supernet)), None)
    if family is None:
        kind = "a derived model's" if base.startswith(tuple(FAMILIES)) else f"a {name} model's"
        supernets = ", ".join(f.supernet for f in FAMILIES.values())
        raise InputError(
            f"{path}: is {kind} checkpoint: expected one of a search ({supernets}), which contains "
            "alpha"
        )
    candidates, checked = {}, {}
    for stack, searched in family.searched_nodes(cfg).items():
        candidates[stack] = parse_operations(cfg.get(f"{stack}_operations"), stack, family)
        expected = (cfg.get("search_layers"), searched, len(candidates[stack]))
        where = f"{path}: {stack}.alpha"
        checked[stack] = _check_alpha(model.get(f"{stack}.alpha"), expected, where, family.node)
    pooling = str(cfg.get("pooling")) if family.pooled else None
    strategy = str(task.get("search_strategy", "darts"))
    masks = {stack: model.get(f"{stack}.remaining") for stack in checked}  # none in version 0.1
    return Snapshot(
        *(path, updates, pooling, candidates, checked, family, strategy),
        remaining={s: m.cpu() for s, m in masks.items() if m is not None and not m.all()},
        relaxation=STRATEGIES.get(strategy, SearchStrategy).relaxation(task),
        exclude=read_names(task.get("derive_exclude"), "--derive-exclude"),
        norm=str(cfg.get("operation_norm", "post")),  # none in version 0.1
    )


def _check_alpha(alpha: Any, expected: tuple[int | None, ...], where: str, node: str) -> Tensor:
    """Check the type and shape of one stack's alpha; return it on the CPU."""
    if not isinstance(alpha, Tensor) or not alpha.is_floating_point():
        raise InputError(f"{where} is missing: expected a tensor of floats")
    fits = alpha.dim() == 3 and all(
        wanted in (None, size) for wanted, size in zip(expected, alpha.shape, strict=True)
    )
    if not fits or alpha.numel() == 0:
        raise InputError(
            f"{where} has shape {tuple(alpha.shape)}: expected {expected} (search layers, searched "
            f"{node}s, candidates) from the stored options"
        )
    return alpha.detach().cpu()


def derive(snapshot: Snapshot, exclude: Collection[str] | None = None) -> Genotype:
    """Choose the operation with the largest alpha in every node (Eq. 2).

    Pruned operations are not chosen, nor those in ``exclude``, by default the search's own.

    Raises:
        InputError: ``exclude`` has all candidates of a stack that remain in a node, or the strategy
            did not learn alpha.
    """
    exclude = snapshot.exclude if exclude is None else exclude
    if not snapshot.learns_alpha:
        raise InputError(
            f"{snapshot.path}: is from a search by {snapshot.strategy}, which does not learn "
            "alpha: search its architectures with dartsformer-evolve"
        )
    choice = snapshot.best_choice(exclude)
    for stack, names in snapshot.candidates.items():
        if any(names[o] in exclude for layer in choice[stack] for o in layer):
            raise InputError(
                f"--exclude: leaves no candidate in a node of the {stack} of {snapshot.path}, "
                f"which has {', '.join(names)}, some perhaps pruned"
            )
    return snapshot.genotype(choice)
