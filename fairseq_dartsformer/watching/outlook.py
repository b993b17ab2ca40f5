"""What alpha says at one moment of a search."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from fairseq.trainer import Trainer

from ..genotype import Genotype
from ..search_result import SearchResult, derive, search_result

SKIPS = ("identity", "zero")  # the candidates that compute nothing


def running_search(trainer: Trainer) -> SearchResult:
    """alpha and the search space of a search that runs.

    Raises:
        InputError: alpha is not finite.
    """
    model = trainer.get_model()
    state = {
        "cfg": {"model": trainer.cfg.model, "task": trainer.cfg.task},
        "model": {
            f"{stack}.alpha": getattr(model, stack).alpha for stack in ("encoder", "decoder")
        },
        "optimizer_history": [{"num_updates": trainer.get_num_updates()}],
    }
    return search_result(state, "the running search")


@dataclass(frozen=True)
class Outlook:
    """The architecture that a search would end with now.

    Attributes:
        result: alpha and the search space.
        best: the strongest operation of every search node, by the node's name.
    """

    result: SearchResult
    best: Mapping[str, str]

    @classmethod
    def of(cls, result: SearchResult) -> Outlook:
        """The outlook of a search."""
        best = {result.name(node): result.ranked(node)[0][0] for node in result.nodes()}
        return cls(result, best)

    @property
    def skips(self) -> list[str]:
        """Names of the nodes whose best operation is `identity` or `zero`."""
        return [node for node, operation in self.best.items() if operation in SKIPS]

    @property
    def genotype(self) -> Genotype:
        return derive(self.result)

    def changed(self, best: Mapping[str, str] | None) -> list[str]:
        """Names of the nodes whose best operation was another; none if nothing was known."""
        if best is None:
            return []
        return [node for node, operation in self.best.items() if best.get(node) != operation]


def in_a_line(genotype: Genotype) -> str:
    """A genotype for the log: the layers of a block divided by slashes."""
    stacks = ((stack, getattr(genotype, stack)) for stack in ("encoder", "decoder"))
    return ", ".join(
        f"{stack} {' / '.join(' '.join(layer) for layer in block)}" for stack, block in stacks
    )
