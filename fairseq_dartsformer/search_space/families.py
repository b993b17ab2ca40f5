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
        nodes: number of nodes in a layer, by stack; ``None`` for splits, any number from 2. A
            family without an encoder has no ``"encoder"``.
        fixed: index of a decoder layer's fixed node, -1 being the last; ``None`` if all are
            searched.
    """

    name: str
    nodes: Mapping[str, int | None]
    fixed: int | None = None

    @property
    def supernet(self) -> str:
        """Name of the model that is searched."""
        return f"{self.name}_search"

    @property
    def task(self) -> str:
        """fairseq's task of the derived models; that of a search is called ``TASK_search``."""
        return "translation" if "encoder" in self.nodes else "language_modeling"

    @property
    def pooled(self) -> bool:
        """Whether a node pools the other splits."""
        return self.nodes["decoder"] is None

    @property
    def node(self) -> str:
        """Word for the place of an operation in a layer."""
        return "split" if self.pooled else "node"

    @property
    def norms(self) -> Sequence[str]:
        """The forms of residual and norm that its operations may have; without splits, the
        operations have the only residual connections."""
        return tuple(NORMS) if self.pooled else ("post", "pre")

    @property
    def stacks(self) -> tuple[str, ...]:
        """Names of the stacks, in the order of the network."""
        return tuple(self.nodes)

    def nodes_of(self, options: Mapping[str, Any]) -> dict[str, int | None]:
        """Return the number of nodes in a layer of each stack, given a supernet's options; ``None``
        where they are missing."""
        found = {stack: n or options.get(f"{stack}_splits") for stack, n in self.nodes.items()}
        if found["decoder"] is None and found.get("encoder"):
            found["decoder"] = found["encoder"] + 1  # the default
        return found

    def searched_nodes(self, options: Mapping[str, Any]) -> dict[str, int | None]:
        """As :meth:`nodes_of`, without the fixed node."""
        return {s: n and n - self.has_fixed(s) for s, n in self.nodes_of(options).items()}

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


DARTSFORMER = Family("dartsformer", {"encoder": None, "decoder": None}, fixed=-1)
DARTSFORMER_LM = Family("dartsformer_lm", {"decoder": None})
# Table 5 and Figure 1: node -> node, and node -> Cross Attention -> node.
DARTS_TRANSFORMER = Family("darts_transformer", {"encoder": 2, "decoder": 3}, fixed=1)
DARTS_TRANSFORMER_LM = Family("darts_transformer_lm", {"decoder": 2})
FAMILIES = {
    family.name: family
    for family in (DARTSFORMER, DARTS_TRANSFORMER, DARTSFORMER_LM, DARTS_TRANSFORMER_LM)
}
