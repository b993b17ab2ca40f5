"""The families of architectures: their stacks, the nodes of a layer, and which of them is fixed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from reprlib import repr as shown
from typing import Any

from ..errors import InputError
from ..operations import (
    DECODER_OPERATIONS,
    ENCODER_OPERATIONS,
    NORMS,
    OPERATIONS_BY_STACK,
    describe_operations,
)

STACKS = ("encoder", "decoder")
FIXED_OPERATION = "cross_attention"  # the operation of the fixed node of every decoder layer


@dataclass(frozen=True)
class Family:
    """Architectures that share a macro structure.

    Attributes:
        name: name of the derived model, also in genotypes.
        supernet: name of the model that is searched.
        node: word for the place of an operation in a layer.
        nodes: number of nodes in a layer, by stack; ``None`` for any number from 2. A family
            without an encoder has no ``"encoder"``.
        pooled: whether a node pools several inputs.
        norms: the forms of residual and norm that its operations may have.
        fixed: index of a decoder layer's fixed node, -1 being the last; ``None`` if all are
            searched.
        task: fairseq's task of the derived models; that of a search is called ``TASK_search``.
    """

    name: str
    supernet: str
    node: str
    nodes: Mapping[str, int | None]
    pooled: bool
    norms: Sequence[str] = tuple(NORMS)
    fixed: int | None = None
    task: str = "translation"

    @property
    def stacks(self) -> tuple[str, ...]:
        """Names of the stacks, in the order of the network."""
        return tuple(self.nodes)

    def _kind(self, stack: str) -> str:
        # Without an encoder, no operation can read its output.
        return stack if "encoder" in self.nodes else "encoder"

    def operations(self, stack: str) -> Sequence[str]:
        """Operations that a stack may have, with those that plugins register."""
        return OPERATIONS_BY_STACK[self._kind(stack)]

    def describe_operations(self, stack: str) -> str:
        """List them for an error message."""
        return describe_operations(self._kind(stack))

    def candidates(self, stack: str) -> tuple[str, ...]:
        """A stack's candidates by default."""
        defaults = {"encoder": ENCODER_OPERATIONS, "decoder": DECODER_OPERATIONS}
        return defaults[self._kind(stack)]

    def has_fixed(self, stack: str) -> bool:
        """Whether a layer of the stack has a fixed node."""
        return stack == "decoder" and self.fixed is not None

    def is_fixed(self, stack: str, node: int, nodes: int) -> bool:
        """Whether a node is fixed, given its index and the number of ``nodes`` in the layer."""
        return self.has_fixed(stack) and node == self.fixed % nodes

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
        if not self.has_fixed(stack):
            return searched
        place = self.fixed % (len(searched) + 1)
        return [*searched[:place], fixed, *searched[place:]]


DARTSFORMER = Family(
    "dartsformer",
    supernet="dartsformer_search",
    node="split",
    nodes={"encoder": None, "decoder": None},
    pooled=True,
    fixed=-1,
)
DARTSFORMER_LM = Family(
    "dartsformer_lm",
    supernet="dartsformer_lm_search",
    node="split",
    nodes={"decoder": None},
    pooled=True,
    task="language_modeling",
)
# Table 5 and Figure 1: node -> node, and node -> Cross Attention -> node.
DARTS_TRANSFORMER = Family(
    "darts_transformer",
    supernet="darts_transformer_search",
    node="node",
    nodes={"encoder": 2, "decoder": 3},
    pooled=False,
    norms=("post", "pre"),  # the operations have the only residual connections
    fixed=1,
)
DARTS_TRANSFORMER_LM = Family(
    "darts_transformer_lm",
    supernet="darts_transformer_lm_search",
    node="node",
    nodes={"decoder": 2},
    pooled=False,
    norms=DARTS_TRANSFORMER.norms,
    task="language_modeling",
)
FAMILIES = {
    family.name: family
    for family in (DARTSFORMER, DARTS_TRANSFORMER, DARTSFORMER_LM, DARTS_TRANSFORMER_LM)
}
