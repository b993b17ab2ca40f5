"""Evolutionary search over architectures (Guo et al. 2020, Algorithm 1).

Default sizes and the mutation probability are those of HAT (Wang et al. 2020, arXiv:2005.14187):
125 architectures a generation, of which 25 are parents, 50 mutations and 50 crossovers. In HAT the
parents are part of the next generation. Here all scored architectures are ranked together, and
random architectures take the parents' 25 places.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from random import Random

from ..errors import InputError

# Index of the candidate of every search node, in the order of the network.
Architecture = tuple[int, ...]

TRIES = 100  # draws for each wanted child before the space counts as exhausted


@dataclass(frozen=True)
class Cost:
    """What an architecture costs: a sum over its nodes, and its limit.

    Attributes:
        option: of the limit, for errors.
        unit: of the cost, for errors.
        table: for every node and candidate, what the choice adds.
        shared: the cost of what all architectures have in common.
        limit: the most that is allowed; ``None`` for any cost.
    """

    option: str
    unit: str
    table: Sequence[Sequence[float]]
    shared: float
    limit: float | None = None

    def of(self, architecture: Architecture) -> float:
        """Return the cost of an architecture."""
        return self.shared + sum(
            costs[o] for costs, o in zip(self.table, architecture, strict=True)
        )

    def fits(self, architecture: Architecture) -> bool:
        """Whether an architecture keeps the limit."""
        return self.limit is None or self.of(architecture) <= self.limit


@dataclass(frozen=True)
class Space:
    """The allowed architectures.

    Attributes:
        parameters: for every node and candidate, the parameters that the choice adds to the derived
            model.
        shared: parameters of every derived model.
        limit: allowed parameters of a derived model; ``None`` for any number.
        allowed: for every node the candidates that may be chosen; ``None`` for all.
        others: costs besides the parameters.

    Raises:
        InputError: every architecture exceeds a limit.
    """

    parameters: Sequence[Sequence[int]]
    shared: int
    limit: int | None = None
    allowed: Sequence[Sequence[int]] | None = None
    others: Sequence[Cost] = ()

    def __post_init__(self) -> None:
        for cost in self.costs:
            least = cost.shared + sum(self._least(cost))
            if cost.limit is not None and least > cost.limit:
                raise InputError(
                    f"{cost.option} is {cost.limit}, it must be at least {least:.10g} "
                    f"{cost.unit}: no architecture has less"
                )

    @property
    def costs(self) -> list[Cost]:
        """The parameters and the other costs."""
        size = ("--max-parameters", "parameters", self.parameters, self.shared, self.limit)
        return [Cost(*size), *self.others]

    def _candidates(self) -> list[Sequence[int]]:
        """For every node the allowed candidates."""
        return [range(len(t)) for t in self.parameters] if self.allowed is None else self.allowed

    def _least(self, cost: Cost) -> list[float]:
        """For every node the least cost of its allowed candidates."""
        pairs = zip(cost.table, self._candidates(), strict=True)
        return [min(table[o] for o in candidates) for table, candidates in pairs]

    def count(self, architecture: Architecture) -> int:
        """Parameters of the derived model."""
        return self.costs[0].of(architecture)

    def fits(self, architecture: Architecture) -> bool:
        """Whether an architecture keeps all limits."""
        return all(cost.fits(architecture) for cost in self.costs)

    def random(self, generator: Random) -> Architecture:
        """Draw an architecture; without a limit, uniformly.

        Draws nodes in a random order, from the candidates that leave enough of every cost for the
        smallest candidates of the remaining nodes. With one limit, the architecture fits. With
        several, a node may have no such candidate; it then takes any, and the architecture need not
        fit.
        """
        costs = [cost for cost in self.costs if cost.limit is not None]
        least = [self._least(cost) for cost in costs]
        spare = [c.limit - c.shared - sum(low) for c, low in zip(costs, least, strict=True)]
        candidates = self._candidates()
        drawn = [0] * len(candidates)
        for i in generator.sample(range(len(drawn)), len(drawn)):
            more = {
                o: [c.table[i][o] - low[i] for c, low in zip(costs, least, strict=True)]
                for o in candidates[i]
            }
            fitting = [
                o
                for o, m in more.items()
                if all(a <= max(b, 0) for a, b in zip(m, spare, strict=True))
            ]
            drawn[i] = generator.choice(fitting or list(more))
            spare = [b - a for a, b in zip(more[drawn[i]], spare, strict=True)]
        return tuple(drawn)


@dataclass(frozen=True)
class Evolution:
    """Settings of the search; the defaults are HAT's.

    Attributes:
        population: architectures of a generation; those that are neither mutations nor crossovers,
            and all of the first generation, are random.
        parents: number of the best architectures that have children.
        mutations: children of one parent, each node drawn anew with ``mutation_probability``.
        crossovers: children of two parents, each node taken from one of them.
        seed: of all random draws.

    Raises:
        InputError: mutations and crossovers exceed the population.
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
        """Yield all architectures so far, best first, after every generation.

        No architecture comes twice; the search ends early when the space is exhausted. It depends
        on nothing but the seed and the costs.

        Args:
            space: the allowed architectures.
            cost: gives the costs of a list of architectures; lower is better.
            generations: number of generations.
        """
        generator = Random(self.seed)
        costs: dict[Architecture, float] = {}
        ranking: list[Architecture] = []
        for _ in range(generations):
            children = self.generation(ranking, space, generator)
            if not children:
                return
            costs.update(zip(children, cost(children), strict=True))
            # At equal costs, the architecture scored first comes first.
            ranking = sorted(costs, key=costs.__getitem__)
            yield ranking

    def generation(
        self, ranking: Sequence[Architecture], space: Space, generator: Random
    ) -> list[Architecture]:
        """New architectures: mutations, crossovers, and random ones up to the population.

        Args:
            ranking: all architectures so far, best first; empty for the first generation.
            space: the allowed architectures.
            generator: source of all draws.
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
    """Make up to ``wanted`` architectures that fit and are new, and add them to ``known``."""
    found: list[Architecture] = []
    for _ in range(TRIES * wanted):
        if len(found) == wanted:
            break
        child = make()
        if child not in known and space.fits(child):
            known.add(child)
            found.append(child)
    return found
