"""`examples/nas_benchmark`: the text on which a search selects, and how its weights rank."""

import csv
import sys
from pathlib import Path
from random import Random

import numpy as np
import pytest
import torch
from fairseq.data.data_utils import load_indexed_dataset
from scipy import stats

from fairseq_dartsformer.evolution.perturbation import Perturbation, PerturbationConfig
from fairseq_dartsformer.evolution.scoring import ScoreConfig, Scorer
from fairseq_dartsformer.operations import DECODER_OPERATIONS
from fairseq_dartsformer.search_space.sampling import draw, searched_node

sys.path.insert(0, str(Path(__file__).parents[2] / "examples" / "nas_benchmark"))
import benchmark as command
from derivatives import Measurement
from holding_out import hold_out
from jobs import work
from sampling import Named, to_cells
from searching import Search, found_in
from settings import SETTINGS, C, selection_passes, setting
from supernet import COLUMNS, tau_interval
from table import Table, columns

PAIR = ("aa", "bb")


def pairs(folder: Path, split: str) -> list[tuple[bytes, ...]]:
    """The sentence pairs of a binarised split."""
    sides = [load_indexed_dataset(f"{folder}/{split}.aa-bb.{language}") for language in PAIR]
    both = zip(*([side[i].numpy() for i in range(len(side))] for side in sides), strict=True)
    return [tuple(np.asarray(side).tobytes() for side in pair) for pair in both]


def test_held_out_text(data, tmp_path):
    """Training text divided, every copy of a pair on one side; as many pairs as for validation."""
    hold_out(data, tmp_path / "data-bin", PAIR)
    parts = [pairs(tmp_path / "data-bin", split) for split in ("train", "valid")]
    assert sorted(parts[0] + parts[1]) == sorted(pairs(data, "train"))
    assert not set(parts[0]) & set(parts[1])
    assert len(parts[1]) == pytest.approx(len(pairs(data, "valid")), rel=0.5)
    hold_out(data, tmp_path / "few", PAIR, len(parts[1]) // 3)
    assert 0 < len(pairs(tmp_path / "few", "valid")) < len(parts[1]) / 2
    for language in PAIR:
        name = f"dict.{language}.txt"
        assert (tmp_path / "data-bin" / name).read_text() == (data / name).read_text()


def test_no_search_sees_the_judges_text(data, tmp_path):
    """Searches do not validate, and the evolution has its own text."""
    (tmp_path / "data-bin").symlink_to(data)
    for strategy in SETTINGS:
        search = Search(strategy, 1, tmp_path, tmp_path / "out")
        assert "--disable-validation" in search.command()
        candidates = search.command()[search.command().index("--decoder-operations") + 1]
        assert candidates == ",".join(o for o in DECODER_OPERATIONS if o != "zero")
        own = strategy == "uniform_sampling"
        assert search.command()[2] == str((search.folder if own else tmp_path) / "data-bin")


def test_names_of_searches(data, tmp_path):
    """Each setting has its own folder and rows, and the cost of its strategy."""
    (tmp_path / "data-bin").symlink_to(data)
    named = {}
    for zero in (False, True):
        for latency in (None, (tmp_path / "table.json", 12.5), (tmp_path / "table.json", 9.0)):
            search = Search("darts", 1, tmp_path, tmp_path / "out", with_zero=zero, latency=latency)
            given = search.command()
            assert latency is None or given[given.index("--latency-target") + 1] == str(latency[1])
            assert ("--arch-penalty" in given) == (latency is not None)
            assert setting(search.name) is SETTINGS["darts"]
            named[search.name] = search.folder
    assert len(named) == len({*named.values()}) == 6
    assert {"darts", "darts-with-zero", "darts-12.5ms", "darts-with-zero-9ms"} < {*named}


def test_search_and_selection_by_perturbation(data, logged_search, tmp_path, monkeypatch):
    """The same search; selection on training text adds its time, and has a row of its own."""
    (tmp_path / "data-bin").symlink_to(data)
    plain, search = (
        Search("darts", 2, tmp_path, tmp_path / "out", perturbation=p) for p in (False, True)
    )
    assert plain.folder == search.folder and plain.command() == search.command()
    assert (search.name, setting(search.name).passes) == ("darts-perturbation", 3 * C)
    search.folder.mkdir(parents=True)
    made = logged_search / "checkpoints" / "checkpoint_last.pt"
    (search.folder / "checkpoint_last.pt").symlink_to(made)
    (search.folder / "cpu_seconds").write_text("1000")
    (search.folder / "peak_bytes").write_text("1")
    table = Table(tmp_path / "table.csv")
    assert work([plain, search], table) == ([], [])
    by_argmax, row = table.rows()
    assert (by_argmax["cpu_seconds"], by_argmax["peak_bytes"]) == ("1000", "1")
    assert int(row["cpu_seconds"]) > 1000 and int(row["peak_bytes"]) > 10**8
    text = search.folder / "selection-pairs"
    assert {*pairs(text, "valid")} <= {*pairs(data, "train")}
    scorer = Scorer(ScoreConfig(str(made), str(text), max_tokens=8000))
    running, score = [], scorer.score_mixtures

    def count(mixtures) -> float:
        nodes = [len(row) for m in mixtures.values() for layer in m.active for row in layer]
        running.append(sum(nodes) / len(nodes))
        return score(mixtures)

    monkeypatch.setattr(scorer, "score_mixtures", count)
    selection = Perturbation(scorer, cfg=PerturbationConfig(seed=2))
    for _ in selection.run():
        pass
    assert found_in(row, without_zero=False) == selection.genotype
    assert selection.genotype != found_in(by_argmax, without_zero=False)
    nodes = [len(candidates) for candidates in selection.candidates.values()]
    expected = selection_passes(sum(nodes) / len(nodes), len(nodes))
    assert sum(running) == pytest.approx(expected, rel=0.05)
    assert command.search_of(Named("darts-perturbation-2", None), tmp_path / "out") == (
        search.folder / "checkpoint_last.pt"
    )


def test_costs_of_selection():
    """That of a pruned supernet is cheaper, by the candidates that it validates and runs."""
    costs = {n: setting(f"{n}-perturbation").after for n in ("darts", "gdas", "drnas")}
    assert 5000 < costs["darts"] == costs["gdas"] < 6000
    assert 3.5 < costs["darts"] / costs["drnas"] < 4


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("uniform_sampling --perturbation", "--perturbation: uniform_sampling learns no alpha"),
        ("darts --perturbation --with-zero", "--perturbation derives one genotype, --with-zero"),
    ],
)
def test_selections_that_cannot_be(tmp_path, monkeypatch, words, message):
    given = f"benchmark.py search {words} --data {tmp_path} --out {tmp_path}"
    monkeypatch.setattr(sys, "argv", given.split())
    with pytest.raises(SystemExit, match=message):
        command.main()


def test_ranking_of_a_supernet(data, logged_search, tmp_path, monkeypatch, capsys):
    """Scores are the supernet's; pruned candidates are left out, other spaces refused."""
    (tmp_path / "data-bin").symlink_to(data)
    checkpoint = logged_search / "checkpoints" / "checkpoint_last.pt"
    scorer = Scorer(ScoreConfig(str(checkpoint), str(data), max_tokens=8000))
    random, table, scores = Random(1), Table(tmp_path / "table.csv"), tmp_path / "scores.csv"
    drawn = [tuple(map(random.choice, scorer.allowed())) for _ in range(8)]
    for number, architecture in enumerate(drawn):
        cells = to_cells(scorer.snapshot.genotype(scorer.choice(architecture)))
        cells |= {"name": f"random-{number}", "seed": "1", "loss_8": f"{5 + number / 10:.3f}"}
        table.add(dict.fromkeys(columns(8), "1.000") | cells)
    words = ["supernet", checkpoint, "--data", tmp_path, "--table", table.path, "-o", scores]
    monkeypatch.setattr(sys, "argv", ["benchmark.py", *map(str, words)])

    def run() -> list[dict[str, str]]:
        command.main()
        with scores.open(newline="") as file:
            return list(csv.DictReader(file))

    rows = run()
    found, alone = ([float(row[name]) for row in rows] for name in COLUMNS[1:])
    assert found == pytest.approx([scorer.score(a) for a in drawn], abs=1e-4)
    assert alone == pytest.approx([5 + number / 10 for number in range(8)])
    tau = f"Kendall's tau over 8 genotypes: {stats.kendalltau(found, alone).statistic:.2f} ["
    assert capsys.readouterr().out.startswith(tau)

    pruned, *others = scorer.allowed()
    pruned.remove(drawn[0][0])
    with monkeypatch.context() as patch:
        patch.setattr(Scorer, "allowed", lambda _: [pruned, *others])
        left = [i for i, a in enumerate(drawn) if a[0] != drawn[0][0]]
        assert [row["name"] for row in run()] == [f"random-{i}" for i in left]
    assert f"left out: {8 - len(left)} genotypes" in capsys.readouterr().out

    foreign = dict(table.rows()[0])  # the encoder's candidates have no zero
    foreign["encoder"] = " / ".join(["zero zero"] * len(foreign["encoder"].split("/")))
    table.add(foreign | {"name": "random-8"})
    assert len(run()) == 8 and "left out: 1 genotypes" in capsys.readouterr().out

    table.add(dict(table.rows()[0]) | {"pooling": "avg"})
    with pytest.raises(SystemExit, match="random-0 is not in the space of this search"):
        command.main()


def test_tau():
    """As scipy's, with ties; the interval is that of resampled pairs."""
    draw = np.random.default_rng(1)
    for count in (10, 48):
        a = draw.normal(size=count).round(1)
        b = (a + draw.normal(size=count)).round(1)
        tau, found = tau_interval(a, b)
        assert tau == pytest.approx(stats.kendalltau(a, b).statistic)
        resampled = [
            stats.kendalltau(a[i], b[i]).statistic for i in draw.integers(0, count, (2000, count))
        ]
        assert found == pytest.approx(np.nanpercentile(resampled, [2.5, 97.5]), abs=0.06)
    assert tau_interval(a, a) == (pytest.approx(1), (pytest.approx(1), pytest.approx(1)))


def test_derivatives_and_effects(data, logged_search):
    """Those of the loss as a function of one candidate's weight: at 1, and between 0 and 1."""
    checkpoint = str(logged_search / "checkpoints" / "checkpoint_last.pt")
    scorer = Scorer(ScoreConfig(checkpoint, str(data), max_tokens=100))
    batch, measurement = scorer.batches[0], Measurement(scorer, seed=1)
    choice = draw(scorer.model, Random(1))
    stack = scorer.model.decoder
    names, expected = searched_node(stack).names, []  # the encoder's candidates have no zero
    for node in np.ndindex(stack.alpha.shape[:2]):
        o = choice["decoder"][node[0]][node[1]]

        def loss(weight: float, node=node, o=o) -> float:
            mixtures = measurement.weighted(choice)
            with torch.no_grad():
                mixtures["decoder"].weights[(*node, o)] = weight
                return measurement.loss(batch, mixtures).item()

        if names[o] != "zero":
            slope = (loss(1.001) - loss(0.999)) / 0.002  # fairseq's criterion computes in float32
            expected.append((names[o], slope, loss(1) - loss(0)))
    found = list(measurement.of_batch(batch))
    assert found and [name for name, *_ in found] == [name for name, *_ in expected]
    for (_, *numbers), (_, *known) in zip(found, expected, strict=True):
        assert numbers == pytest.approx(known, rel=0.01, abs=4e-4)
