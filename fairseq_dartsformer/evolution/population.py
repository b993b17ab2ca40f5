"""Evolutionary search over architectures (Guo et al. 2020, Algorithm 1).

How many there are of what, and the chance of a mutation, are by default those of HAT (Wang et al.
2020, arXiv:2005.14187), which searches Transformers in this way: 125 architectures a generation, of
which 25 are parents, 50 mutations and 50 crossovers. There the parents stand in the next generation
themselves. Here they compete as well, since all that was ever scored is ranked, and the 25 places
go to architectures drawn at random.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from random import Random

from ..errors import InputError

# For every search node, in the order of the network, the index of its candidate.
Architecture = tuple[int, ...]

TRIES = 100  # how often to draw, a wanted child, before there seem to be no more


@dataclass(frozen=True)
class Space:
    """The architectures that may be drawn.

    Attributes:
        parameters: for every node, for every candidate, how many parameters the derived model has
            by choosing it.
        shared: how many it has in any case.
        limit: how many it may have; ``None`` for any number.

    Raises:
        InputError: the smallest architecture exceeds the limit.
    """

    parameters: Sequence[Sequence[int]]
    shared: int
    limit: int | None = None

    def __post_init__(self) -> None:
        smallest = self.count(tuple(sizes.index(min(sizes)) for sizes in self.parameters))
        if self.limit is not None and smallest > self.limit:
            raise InputError(
                f"--max-parameters is {self.limit}, but the smallest architecture has {smallest}"
            )

    def count(self, architecture: Architecture) -> int:
        """Parameters of the derived model."""
        chosen = (sizes[o] for sizes, o in zip(self.parameters, architecture, strict=True))
        return self.shared + sum(chosen)

    def fits(self, architecture: Architecture) -> bool:
        """Whether it keeps the limit."""
        return self.limit is None or self.count(architecture) <= self.limit

    def random(self, generator: Random) -> Architecture:
        """Draw one that fits: node by node, in a random order, from what leaves room enough for the
        smallest candidates of the nodes to come; uniformly, without a limit."""
        least = [min(sizes) for sizes in self.parameters]
        limit = math.inf if self.limit is None else self.limit
        spare = limit - self.shared - sum(least)
        drawn = [0] * len(least)
        for i in generator.sample(range(len(least)), len(least)):
            extra = [size - least[i] for size in self.parameters[i]]
            drawn[i] = generator.choice([o for o, more in enumerate(extra) if more <= spare])
            spare -= extra[drawn[i]]
        return tuple(drawn)


@dataclass(frozen=True)
class Evolution:
    """How to search; the defaults are HAT's.

    Attributes:
        population: architectures of a generation; those that are neither mutations nor crossovers
            are drawn at random, as are all of the first.
        parents: how many of the best so far have children.
        mutations: children of one parent, each node drawn anew with ``mutation_probability``.
        crossovers: children of two parents, each node being one's or the other's.
        seed: of all draws.

    Raises:
        InputError: there are more children than the population has room for.
    """

    population: int = 125
    parents: int = 25
    mutations: int = 50
    crossovers: int = 50
    mutation_probability: float = 0.3
    seed: int = 1

    def __post_init__(self) -> None:
        if self.mutations + self.crossovers > self.population:
            raise InputError(
                f"--population is {self.population}, which {self.mutations} --mutations and "
                f"{self.crossovers} --crossovers exceed"
            )

    def run(
        self,
        space: Space,
        cost: Callable[[list[Architecture]], Sequence[float]],
        generations: int,
    ) -> Iterator[list[Architecture]]:
        """All architectures so far, the best first, after every generation.

        None comes twice. It ends early when there seem to be no more. All that is drawn follows
        from the seed and the costs.

        Args:
            space: what to draw from.
            cost: of each of a generation's architectures; the least is the best.
            generations: how many.
        """
        generator = Random(self.seed)
        costs: dict[Architecture, float] = {}
        ranking: list[Architecture] = []
        for _ in range(generations):
            children = self.generation(ranking, space, generator)
            if not children:
                return
            costs.update(zip(children, cost(children), strict=True))
            # Of equals the first scored stands first.
            ranking = sorted(costs, key=costs.__getitem__)
            yield ranking

    def generation(
        self, ranking: Sequence[Architecture], space: Space, generator: Random
    ) -> list[Architecture]:
        """New architectures: mutations, crossovers, and as many random ones as there is room for.

        Args:
            ranking: all so far, the best first; of the first generation, none.
            space: what to draw from.
            generator: draws.
        """
        parents, known = ranking[: self.parents], set(ranking)

        def random() -> Architecture:
            return space.random(generator)

        def mutation() -> Architecture:
            parent, other = generator.choice(parents), random()
            p = self.mutation_probability
            return tuple(
                b if generator.random() < p else a for a, b in zip(parent, other, strict=True)
            )

        def crossover() -> Architecture:
            pair = (generator.choice(parents), generator.choice(parents))
            return tuple(generator.choice(nodes) for nodes in zip(*pair, strict=True))

        children: list[Architecture] = []
        if parents:
            children += _new(self.mutations, mutation, space, known)
            children += _new(self.crossovers, crossover, space, known)
        return children + _new(self.population - len(children), random, space, known)


def _new(
    wanted: int, make: Callable[[], Architecture], space: Space, known: set[Architecture]
) -> list[Architecture]:
    """As many as wanted of what ``make`` gives, if it does: those that fit and were not known, and
    are from now on."""
    found: list[Architecture] = []
    for _ in range(TRIES * wanted):
        if len(found) == wanted:
            break
        child = make()
        if child not in known and space.fits(child):
            known.add(child)
            found.append(child)
    return found
