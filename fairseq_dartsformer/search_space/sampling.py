"""Single architectures of a supernet: one candidate per search node, without alpha."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from random import Random

from torch import nn

# The index of a candidate, by stack, layer of the block and search node.
Choice = Mapping[str, Sequence[Sequence[int]]]


def draw(supernet: nn.Module, generator: Random) -> Choice:
    """Draw a candidate for every search node, all with the same probability."""
    choice = {}
    for name in ("encoder", "decoder"):
        layers, nodes, candidates = getattr(supernet, name).alpha.shape
        choice[name] = [
            [generator.randrange(candidates) for _ in range(nodes)] for _ in range(layers)
        ]
    return choice


@contextmanager
def chosen(supernet: nn.Module, choice: Choice) -> Iterator[None]:
    """Run only the chosen candidate of every search node of ``supernet``, without alpha.

    The supernet then computes the same as the derived model with these weights.
    """
    supernet.encoder.choice, supernet.decoder.choice = choice["encoder"], choice["decoder"]
    try:
        yield
    finally:
        supernet.encoder.choice = supernet.decoder.choice = None


def parameters_not_chosen(supernet: nn.Module, choice: Choice) -> Iterator[nn.Parameter]:
    """The parameters of all candidates that were not chosen."""
    for stack, rows in choice.items():
        for i, layer in enumerate(getattr(supernet, stack).stack.layers):
            # A node with one operation, such as a fixed one, has none that was not chosen.
            nodes = [node for node in layer.nodes if len(node) > 1]
            for node, index in zip(nodes, rows[i % len(rows)], strict=False):
                for o, operation in enumerate(node):
                    if o != index:
                        yield from operation.parameters()
