"""The families of architectures: what the nodes of a layer are, and which is not searched."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

FIXED_OPERATION = "cross_attention"  # of one node of every decoder layer


@dataclass(frozen=True)
class Family:
    """Architectures of one macro structure.

    Attributes:
        name: of the derived model, and in genotypes.
        supernet: name of the model that is searched.
        node: what the place of an operation in a layer is called.
        fixed: which of a decoder layer's nodes is not searched; the last if negative.
        nodes: by stack, how many a layer has; ``None`` for any number from 2.
        pooled: whether a node pools several inputs.
    """

    name: str
    supernet: str
    node: str
    fixed: int
    nodes: Mapping[str, int | None]
    pooled: bool

    def is_fixed(self, stack: str, node: int, nodes: int) -> bool:
        """Whether the given of so many nodes of a layer is not searched."""
        return stack == "decoder" and node == self.fixed % nodes

    def with_fixed(self, stack: str, searched: list[Any], fixed: Any) -> list[Any]:
        """All nodes of a layer, from those that are searched and the one that is not."""
        if stack == "encoder":
            return searched
        place = self.fixed % (len(searched) + 1)
        return [*searched[:place], fixed, *searched[place:]]


DARTSFORMER = Family(
    "dartsformer",
    supernet="dartsformer_search",
    node="split",
    fixed=-1,
    nodes={"encoder": None, "decoder": None},
    pooled=True,
)
# Table 5 and Figure 1: node -> node, and node -> Cross Attention -> node.
DARTS_TRANSFORMER = Family(
    "darts_transformer",
    supernet="darts_transformer_search",
    node="node",
    fixed=1,
    nodes={"encoder": 2, "decoder": 3},
    pooled=False,
)
FAMILIES = {family.name: family for family in (DARTSFORMER, DARTS_TRANSFORMER)}
