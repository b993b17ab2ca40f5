"""Single architectures of a supernet: one candidate per search node, without alpha."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from random import Random

import torch
from torch import Tensor, nn

from ..reversible.coupling import Mixtures, Partial, take_apart

# The index of a candidate, by stack, layer of the block and search node.
Choice = Mapping[str, Sequence[Sequence[int]]]


def searched_stacks(model: nn.Module) -> dict[str, nn.Module]:
    """Return encoder and decoder, by name, if they are searched."""
    coders = {name: getattr(model, name, None) for name in ("encoder", "decoder")}
    return {n: coder for n, coder in coders.items() if getattr(coder, "alpha", None) is not None}


def searched_node(coder: nn.Module) -> nn.Module:
    """Return the first search node of a stack."""
    nodes = coder.stack.layers[0].nodes
    return next(node for node in nodes if len(node) == coder.alpha.size(-1))


def best(supernet: nn.Module, exclude: Collection[str] = ()) -> Choice:
    """Choose the candidate with the largest alpha for every search node (Eq. 2), as
    :func:`best_of_stack` does."""
    stacks = searched_stacks(supernet).items()
    return {name: best_of_stack(coder, exclude).tolist() for name, coder in stacks}


def best_of_stack(coder: nn.Module, exclude: Collection[str] = ()) -> Tensor:
    """Return the candidate with the largest alpha for every search node, `layers × nodes`.

    Those in ``exclude`` are not chosen, unless no others remain in a node.
    """
    return best_candidates(coder.scores.detach(), searched_node(coder).names, exclude)


def best_candidates(scores: Tensor, names: Sequence[str], exclude: Collection[str]) -> Tensor:
    """As :func:`best_of_stack`, given scores `layers × nodes × candidates`, minus infinity where
    pruned, and the candidates' names."""
    excluded = [name in exclude for name in names]
    allowed = scores.masked_fill(torch.tensor(excluded, device=scores.device), -torch.inf)
    none = allowed.isinf().all(-1, keepdim=True)
    return torch.where(none, scores, allowed).argmax(-1)


def draw(supernet: nn.Module, generator: Random) -> Choice:
    """Draw a candidate for every search node, all with the same probability."""
    choice = {}
    for name, coder in searched_stacks(supernet).items():
        layers, nodes, candidates = coder.alpha.shape
        choice[name] = [
            [generator.randrange(candidates) for _ in range(nodes)] for _ in range(layers)
        ]
    return choice


@contextmanager
def chosen(supernet: nn.Module, mixtures: Mapping[str, Mixtures]) -> Iterator[None]:
    """Run ``mixtures``, by stack, in the search nodes of ``supernet`` instead of alpha's.

    With a choice, the supernet computes the same as the derived model with these weights.
    """
    stacks = {stack: getattr(supernet, stack) for stack in mixtures}
    for stack, coder in stacks.items():
        coder.mixtures = mixtures[stack]
    try:
        yield
    finally:
        for coder in stacks.values():
            coder.mixtures = None


def parameters_not_chosen(
    supernet: nn.Module, mixtures: Mapping[str, Mixtures]
) -> Iterator[nn.Parameter]:
    """The parameters of all candidates that did not run."""
    for stack, found in mixtures.items():
        _, rows = take_apart(found)
        if rows is None:
            continue
        for i, layer in enumerate(getattr(supernet, stack).stack.layers):
            # A node with one operation, such as a fixed one, has none that was not chosen.
            nodes = [node for node in layer.nodes if len(node) > 1]
            for node, indices in zip(nodes, rows[i % len(rows)], strict=False):
                active = [indices] if isinstance(indices, int) else indices
                for o, operation in enumerate(node):
                    if o not in active:
                        yield from operation.parameters()


def parameters_pruned(supernet: nn.Module) -> Iterator[nn.Parameter]:
    """The parameters of all candidates that have been pruned."""
    remaining = {
        stack: Partial(coder.alpha, coder.active)
        for stack, coder in searched_stacks(supernet).items()
        if coder.active is not None
    }
    yield from parameters_not_chosen(supernet, remaining)
