"""The families of architectures: the nodes of a layer, and which of them is fixed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from reprlib import repr as shown
from typing import Any

from ..errors import InputError
from ..operations import NORMS

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
        norms: the forms of residual and norm that its operations may have.
    """

    name: str
    supernet: str
    node: str
    fixed: int
    nodes: Mapping[str, int | None]
    pooled: bool
    norms: Sequence[str] = tuple(NORMS)

    def is_fixed(self, stack: str, node: int, nodes: int) -> bool:
        """Whether a node is fixed, given its index and the number of ``nodes`` in the layer."""
        return stack == "decoder" and node == self.fixed % nodes

    def check_norm(self, norm: object, place: str) -> None:
        """Check that the operations may have the form ``norm``, which ``place`` gives.

        Raises:
            InputError: they may not.
        """
        if norm not in list(self.norms):
            expected = " or ".join(map(repr, self.norms))
            if norm in list(NORMS):
                expected += f", as {self.name} has no residual connection outside the operations"
            raise InputError(f"{place} is {shown(norm)}: expected {expected}")

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
    norms=("post", "pre"),  # the operations have the only residual connections
)
FAMILIES = {family.name: family for family in (DARTSFORMER, DARTS_TRANSFORMER)}
