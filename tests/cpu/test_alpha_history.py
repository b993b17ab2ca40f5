"""Alpha over time agrees with the checkpoints, and a table of it keeps everything."""

import pytest
from helpers.snapshots import RECORDED, results, search_state

from fairseq_dartsformer.errors import InputError
from fairseq_dartsformer.operations import DECODER_OPERATIONS, ENCODER_OPERATIONS
from fairseq_dartsformer.search.history import history_of
from fairseq_dartsformer.search.snapshot import derive, snapshot_of
from fairseq_dartsformer.search_space.alpha import entropy
from fairseq_dartsformer.search_space.alpha_history import AlphaHistory


def test_history_agrees_with_derivation():
    found = results(6, layers=2)
    history = history_of(reversed(found))
    assert history.updates == [10_000 * n for n in range(1, 7)]
    genotypes = list(map(derive, found))
    for node, searched in zip(history.nodes, found[0].nodes(), strict=True):
        assert history.name(node) == found[0].name(searched)
        assert node.chosen == [getattr(g, node.stack)[node.layer][node.place] for g in genotypes]
        candidates = ENCODER_OPERATIONS if node.stack == "encoder" else DECODER_OPERATIONS
        assert tuple(node.weights) == candidates
        for i, snapshot in enumerate(found):
            ranked = snapshot.ranked(searched)
            assert {name: times[i] for name, times in node.weights.items()} == dict(ranked)
            assert node.margins[i] == ranked[0][1] - ranked[1][1]
            nats = entropy(snapshot.weights_of(searched)).item()
            assert node.entropies[i] == pytest.approx(nats, abs=1e-5)


def test_last_change():
    """The choice is the last one since then, and another just before."""
    for node in history_of(results(40, encoder_operations="ffn,glu")).nodes:
        change = node.last_change
        assert len(set(node.chosen[change or 0 :])) == 1
        assert change is None or node.chosen[change - 1] != node.chosen[-1]
    state = search_state(1)
    unchanged = history_of([snapshot_of(state, "a"), snapshot_of(state, "b")])
    assert [node.last_change for node in unchanged.nodes] == [None] * 8


def load(folder, text: str) -> AlphaHistory:
    path = folder / "a.tsv"
    path.write_text(text)
    return AlphaHistory.load(str(path))


@pytest.mark.parametrize(
    "options",
    [
        {"layers": 1, "splits": 3},
        {"decoder_splits": 3, "_name": "darts_transformer_search"},
    ],
)
def test_table_keeps_all(tmp_path, options):
    history = history_of(results(3, **options))
    read = load(tmp_path, history.to_tsv())
    assert (read.updates, read.family) == (history.updates, history.family)
    assert read.to_tsv() == history.to_tsv()
    for one, other in zip(read.nodes, history.nodes, strict=True):
        assert one.chosen == other.chosen
        for name, weights in other.weights.items():
            assert one.weights[name] == pytest.approx(weights, abs=1e-5)


def test_recorded_table_is_as_it_would_be_written():
    assert AlphaHistory.load(str(RECORDED)).to_tsv() == RECORDED.read_text()


ROW = "10000\tencoder\t1\t1\tffn\t0.1"


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda text: "", "expected a table with columns updates stack layer split"),
        (lambda text: text.splitlines()[0], "has no rows"),
        (lambda text: text + text.splitlines()[1], "line 218: repeats"),
        (lambda text: "\n".join(text.split("\n")[:-2]), "has no row for .*decoder"),
        *(
            (lambda text, row=row: f"{text}{row}\n", "line 218: is .*: expected a number of up")
            for row in (
                *("", ROW[:-4], ROW.replace("10000", "9" * 5000), ROW.replace("encoder", "")),
                *(ROW.replace("\t1\t", "\t0\t", 1), ROW.replace("ffn", "conv_12")),
                *(ROW.replace("0.1", bad) for bad in ("nan", "2.5", "O.1")),
            )
        ),
    ],
)
def test_damaged_table(tmp_path, damage, message):
    """The error is one line that names the file, the line and what is expected."""
    text = history_of(results(2)).to_tsv()
    with pytest.raises(InputError, match=rf"^\S*a.tsv.*{message}") as error:
        load(tmp_path, damage(text))
    assert len(str(error.value)) < 600
