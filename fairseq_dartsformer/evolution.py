"""Evolutionary search over architectures (Guo et al. 2020, Algorithm 1)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from random import Random

from .errors import InputError

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
    """How to search; the defaults are ours.

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

        def new(wanted: int, make: Callable[[], Architecture]) -> list[Architecture]:
            found: dict[Architecture, None] = {}
            for _ in range(TRIES * wanted):
                if len(found) == wanted:
                    break
                child = make()
                if child not in costs and child not in children and space.fits(child):
                    found[child] = None
            return list(found)

        def mutation() -> Architecture:
            parent, other = generator.choice(parents), random()
            p = self.mutation_probability
            return tuple(
                b if generator.random() < p else a for a, b in zip(parent, other, strict=True)
            )

        def crossover() -> Architecture:
            pair = (generator.choice(parents), generator.choice(parents))
            return tuple(generator.choice(nodes) for nodes in zip(*pair, strict=True))

        def random() -> Architecture:
            return space.random(generator)

        ranking: list[Architecture] = []
        for _ in range(generations):
            children: list[Architecture] = []
            parents = ranking[: self.parents]
            if parents:
                children += new(self.mutations, mutation)
                children += new(self.crossovers, crossover)
            children += new(self.population - len(children), random)
            if not children:
                return
            costs.update(zip(children, cost(children), strict=True))
            # Of equals the first scored stands first.
            ranking = sorted(costs, key=costs.__getitem__)
            yield ranking
