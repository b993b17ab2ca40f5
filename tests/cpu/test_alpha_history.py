"""What is known of alpha over a search is what its checkpoints say."""

import pytest
from helpers.searches import results, search_state

from fairseq_dartsformer.search.snapshot import derive, history_of, snapshot_of
from fairseq_dartsformer.search_space.alpha import entropy


def test_history_agrees_with_derivation():
    found = results(6, layers=2)
    history = history_of(reversed(found))
    assert history.updates == [10_000 * n for n in range(1, 7)]
    genotypes = list(map(derive, found))
    for node, searched in zip(history.nodes, found[0].nodes(), strict=True):
        assert history.name(node) == found[0].name(searched)
        assert node.chosen == [getattr(g, node.stack)[node.layer][node.place] for g in genotypes]
        for i, result in enumerate(found):
            ranked = result.ranked(searched)
            assert {name: times[i] for name, times in node.weights.items()} == dict(ranked)
            assert node.margins[i] == ranked[0][1] - ranked[1][1]
            nats = entropy(result.alpha_of(searched)).item()
            assert node.entropies[i] == pytest.approx(nats, abs=1e-5)


def test_last_change():
    """Since then the choice is the last one; just before it was another."""
    for node in history_of(results(40, encoder_operations="ffn,glu")).nodes:
        change = node.last_change
        assert len(set(node.chosen[change or 0 :])) == 1
        assert change is None or node.chosen[change - 1] != node.chosen[-1]
    state = search_state(1)
    unchanged = history_of([snapshot_of(state, "a"), snapshot_of(state, "b")])
    assert [node.last_change for node in unchanged.nodes] == [None] * 8
