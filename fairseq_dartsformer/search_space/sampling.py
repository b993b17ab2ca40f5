"""Single architectures of a supernet: one candidate a search node, alpha unused."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from random import Random

from torch import nn

# For `encoder` and `decoder`, for each layer of the block, for each search node: the index of one
# candidate.
Choice = Mapping[str, Sequence[Sequence[int]]]


def draw(supernet: nn.Module, generator: Random) -> Choice:
    """A candidate for every search node, each with the same probability."""
    choice = {}
    for name, side in (("encoder", supernet.encoder), ("decoder", supernet.decoder)):
        layers, nodes, candidates = side.alpha.shape
        choice[name] = [
            [generator.randrange(candidates) for _ in range(nodes)] for _ in range(layers)
        ]
    return choice


@contextmanager
def chosen(supernet: nn.Module, choice: Choice) -> Iterator[None]:
    """Within, every node of ``supernet`` is the chosen candidate alone; alpha is not used.

    It then computes what the model derived with that choice does, with the same weights.
    """
    supernet.encoder.choice, supernet.decoder.choice = choice["encoder"], choice["decoder"]
    try:
        yield
    finally:
        supernet.encoder.choice = supernet.decoder.choice = None


def parameters_not_chosen(supernet: nn.Module, choice: Choice) -> Iterator[nn.Parameter]:
    """The parameters of all candidates that ``choice`` leaves out."""
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
