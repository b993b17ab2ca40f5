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
    for name, side in (("encoder", supernet.encoder), ("decoder", supernet.decoder)):
        for i, layer in enumerate(side.stack.layers):
            fixed = getattr(layer, "fixed", None)
            searched = (node for k, node in enumerate(layer.nodes) if k != fixed)
            # A reversible layer's fixed node is its last.
            for node, chosen_one in zip(
                searched, choice[name][i % len(choice[name])], strict=False
            ):
                for o, operation in enumerate(node):
                    if o != chosen_one:
                        yield from operation.parameters()
