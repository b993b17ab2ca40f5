"""The families of architectures: the nodes of a layer, and which of them is fixed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

FIXED_OPERATION = "cross_attention"  # the operation of the fixed node of every decoder layer


@dataclass(frozen=True)
class Family:
    """Architectures that share a macro structure.

    Attributes:
        name: name of the derived model, also in genotypes.
        supernet: name of the model that is searched.
        node: word for the place of an operation in a layer.
        fixed: index of a decoder layer's fixed node; -1 is the last.
        nodes: number of nodes in a layer, by stack; ``None`` for any number from 2.
        pooled: whether a node pools several inputs.
    """

    name: str
    supernet: str
    node: str
    fixed: int
    nodes: Mapping[str, int | None]
    pooled: bool

    def is_fixed(self, stack: str, node: int, nodes: int) -> bool:
        """Whether a node is fixed, given its index and the number of ``nodes`` in the layer."""
        return stack == "decoder" and node == self.fixed % nodes

    def with_fixed(self, stack: str, searched: list[Any], fixed: Any) -> list[Any]:
        """Insert the fixed node, if the stack has one, among the searched nodes of a layer."""
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
