"""Evolution: what it draws and keeps; its history goes on wherever it was cut."""

import itertools
import resource
from collections import Counter
from dataclasses import replace
from random import Random

import pytest
from helpers.models import uniform_genotype

from fairseq_dartsformer.errors import InputError
from fairseq_dartsformer.evolution.history import History, read_scores
from fairseq_dartsformer.evolution.population import Cost, Evolution, Space

# 3^6 architectures; a candidate's number is its size.
SPACE = Space([[0, 1, 2]] * 6, shared=10)


def distance(architectures) -> list[float]:
    """To an optimum that no candidate's size gives away."""
    best = (1, 0, 2, 1, 2, 0)
    return [float(sum(a != b for a, b in zip(arch, best, strict=False))) for arch in architectures]


def generations(evolution: Evolution, space: Space, count: int) -> list[list[tuple]]:
    """What each generation had scored."""
    scored = []
    rankings = list(
        evolution.run(space, lambda new: scored.append(list(new)) or distance(new), count)
    )
    assert [len(r) for r in rankings] == list(itertools.accumulate(map(len, scored)))
    for ranking in rankings:
        assert distance(ranking) == sorted(distance(ranking))
    return scored


@pytest.mark.parametrize("limit", [None, 15])
def test_generations(limit):
    evolution = Evolution(20, 5, 8, 8, 0.3, seed=1)
    space = Space(SPACE.parameters, SPACE.shared, limit)
    scored = generations(evolution, space, 6)
    everything = list(itertools.chain.from_iterable(scored))
    assert len(set(everything)) == len(everything) == 6 * 20
    assert all(map(space.fits, everything))
    assert generations(evolution, space, 6) == scored
    assert generations(Evolution(20, 5, 8, 8, 0.3, seed=2), space, 6) != scored
    # Children are of the best: nearer to the optimum than what is drawn at random.
    means = [sum(distance(g[:16])) / 16 for g in scored]
    assert means[1] < means[0] - 0.5
    assert min(distance(everything)) <= (0 if limit is None else 1)


def test_candidates_that_are_not_allowed_are_never_chosen():
    allowed = [[0], [1, 2], [0, 2], [0, 1, 2], [2], [0, 1]]
    space = Space(SPACE.parameters, SPACE.shared, 17, allowed)
    for generation in generations(Evolution(8, 3, 3, 3, 0.5, seed=1), space, 3):
        for architecture in generation:
            assert all(o in of for o, of in zip(architecture, allowed, strict=True))
    with pytest.raises(InputError, match="it must be at least 13 parameters"):
        Space(SPACE.parameters, SPACE.shared, 12, allowed)


@pytest.mark.parametrize("seed", range(5))
def test_children_are_of_the_best(seed):
    scored: list[list[tuple]] = []
    evolution = Evolution(24, 8, 6, 6, 0.1, seed)
    list(evolution.run(SPACE, lambda new: scored.append(new) or distance(new), 2))
    first, second = scored
    parents = sorted(first, key=lambda architecture: distance([architecture])[0])[:8]
    for child in second[:6]:  # mutations
        assert min(sum(a != b for a, b in zip(child, p, strict=True)) for p in parents) <= 3
    for child in second[6:12]:  # crossovers
        pairs = itertools.combinations(parents, 2)
        assert any(all(o in (a[i], b[i]) for i, o in enumerate(child)) for a, b in pairs)


def test_a_small_space_is_searched_whole():
    space = Space([[0, 1, 2]] * 2, shared=0)
    scored = generations(Evolution(4, 2, 1, 1, 0.5), space, 50)
    assert sorted(itertools.chain.from_iterable(scored)) == list(
        itertools.product(range(3), repeat=2)
    )


def test_random_architectures():
    generator = Random(0)
    uniform = Counter(SPACE.random(generator) for _ in range(7290))
    assert len(uniform) > 720 and max(uniform.values()) < 30  # of 729, ten times each
    for limit in range(10, 16):
        space = Space(SPACE.parameters, SPACE.shared, limit)
        drawn = {space.random(generator) for _ in range(50)}
        assert all(map(space.fits, drawn))
        assert max(map(space.count, drawn)) == limit
    with pytest.raises(InputError, match=r"--max-parameters is 9, .* at least 10"):
        Space(SPACE.parameters, SPACE.shared, 9)


COSTS = [[0.3, 0.1, 0.2]] * 6


@pytest.mark.parametrize("limits", [(None, 1.0), (14, 1.6), (13, 1.6)])
def test_two_limits(limits):
    """The second cost's least candidate is the first's middle one."""
    size, milliseconds = limits
    cost = Cost("--max-latency", "ms", COSTS, 0.2, milliseconds)
    space = Space(SPACE.parameters, SPACE.shared, size, others=[cost])
    scored = generations(Evolution(20, 5, 8, 8, 0.3, seed=1), space, 4)
    assert len(scored[0]) == 20
    for architecture in itertools.chain.from_iterable(scored):
        assert 0.2 + sum(COSTS[0][o] for o in architecture) <= milliseconds + 1e-9
        assert size is None or 10 + sum(architecture) <= size
    with pytest.raises(InputError, match=r"--max-latency is 0.7, .* at least 0.8 ms"):
        Space(SPACE.parameters, SPACE.shared, size, others=[replace(cost, limit=0.7)])


# -- its history


SETTINGS = {"seed": 1, "beam": 5}
FOREIGN = [b"notes", b'{"seed": 1, "notes": 2', b"notes\nmore", b'{"notes": 2}\n', b"\n", b"\xff\n"]
FOREIGN += [b"[" * 100_000 + b"\n"]


def fill(history: History, number: int) -> None:
    genotype = uniform_genotype(["ffn", "glu", "conv_3"][number], 2, "max")
    history.add(genotype, number / 3, 100, generation=1)


@pytest.mark.parametrize("content", FOREIGN, ids=range(len(FOREIGN)))
def test_a_foreign_history_is_left_alone(tmp_path, content):
    path = tmp_path / "notes"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"--history .*notes: (is not|was begun with)"):
        History(path, "loss", SETTINGS)
    assert path.read_bytes() == content


def test_history_goes_on_wherever_it_was_cut(tmp_path):
    path = tmp_path / "history"
    whole = History(path, "loss", SETTINGS)
    fill(whole, 0)
    fill(whole, 1)
    content = path.read_bytes()
    for size in range(len(content) + 1):
        path.write_bytes(content[:size])
        found = History(path, "loss", SETTINGS)
        for number in range(len(found.scores), 2):
            fill(found, number)
        assert found.scores == whole.scores and path.read_bytes() == content


def test_scores_are_read_without_resuming(tmp_path):
    path = tmp_path / "history"
    history = History(path, "loss", SETTINGS | {"score": "loss"})
    fill(history, 0)
    fill(history, 1)
    content = path.read_bytes()
    path.write_bytes(content + b'{"generation": 1, "lo')
    assert read_scores(str(path)) == ("loss", history.scores)
    for foreign in FOREIGN:
        path.write_bytes(foreign)
        with pytest.raises(InputError, match=r"history: is not the history of a search"):
            read_scores(str(path))


def test_history_on_a_full_disk_is_one_error(tmp_path):
    path = tmp_path / "history"
    history = History(path, "loss", SETTINGS)
    _, hard = limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 9, hard))
    try:
        with pytest.raises(InputError, match=r"--history .*: cannot be written: "):
            fill(history, 0)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert history.scores == History(path, "loss", SETTINGS).scores == {}
