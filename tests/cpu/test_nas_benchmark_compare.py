"""`examples/nas_benchmark`: the comparison of strategies, its files and its picture."""

import csv
import json
import sys
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from fairseq import options
from scipy import stats

from fairseq_dartsformer.memory.planner import count_parameters, training_config
from fairseq_dartsformer.plots.style import svg

sys.path.insert(0, str(Path(__file__).parents[2] / "examples" / "nas_benchmark"))
import benchmark as command
from baselines import MODELS, baselines
from comparing import Comparison, deviations, expected_best
from comparison_files import markdown, save_lines
from picture import picture
from placing import Benchmark, error_of_mean, interval, pooled, query
from sampling import COLUMNS, sample, to_cells
from settings import SETTINGS, TRAINING
from table import Table, columns

STRATEGIES = ("darts", "gdas", "uniform_sampling")
SEEDS = (1, 2)
MEAN_PARAMETERS = 428_304  # of sample(48, seed=1) with a dictionary of 4,344 types


def training(name: str, cells: dict[str, str], seed: int, loss: float) -> dict[str, str]:
    """A row of a table of trainings."""
    row = dict.fromkeys(columns(4000), "6.000") | {"name": name, **cells, "seed": str(seed)}
    row |= {"loss_4000": f"{loss:.3f}", "parameters": "400000", "cpu_seconds": "1800"}
    return row | {"bleu": f"{10 - loss:.2f}", "chrf": "30.00"}


@pytest.fixture(scope="module")
def tables(tmp_path_factory) -> dict[str, Table]:
    """40 random genotypes, three strategies with two search seeds, one baseline."""
    folder = tmp_path_factory.mktemp("tables")
    names = ("random", "searches", "found", "without_zero", "baselines")
    tables = {name: Table(folder / f"{name}.csv") for name in names}
    draw, named = np.random.default_rng(1), sample(50, seed=1)
    for number, random in enumerate(named[:40]):
        loss = draw.normal(5.8, 0.03)
        for seed in (1, 2, 3) if number < 8 else (1,):
            row = training(
                random.name, to_cells(random.genotype), seed, loss + draw.normal(0, 5e-3)
            )
            tables["random"].add(row)
    for number, (strategy, seed) in enumerate(product(STRATEGIES, SEEDS)):
        cells = to_cells(named[40 + number].genotype)
        updates = SETTINGS[strategy].updates
        row = {"name": strategy, "seed": str(seed), "updates": f"{updates}", **cells}
        tables["searches"].add(row | {"cpu_seconds": "3600", "peak_bytes": f"{seed}000000000"})
        loss = draw.normal(5.78, 0.01)
        for again in SEEDS:
            row = training(f"{strategy}-{seed}", cells, again, loss + draw.normal(0, 5e-3))
            tables["found"].add(row)
    tables["without_zero"].add(training("darts-2", cells, 1, 5.5))
    empty = dict.fromkeys(COLUMNS[1:], "")
    for seed in SEEDS:
        tables["baselines"].add(training("transformer", empty, seed, 5.9 + 0.01 * seed))
    return tables


@pytest.fixture
def comparison(tables) -> Comparison:
    return Comparison(Benchmark(tables["random"].path), tables["searches"].rows())


@pytest.fixture
def lines(comparison, tables):
    """All lines by their names."""
    others = [tables[name].rows() for name in ("found", "without_zero", "baselines")]
    return {line.name: line for line in comparison.lines(*others)}


def test_expected_best():
    """The mean over all draws with replacement; between whole k it falls without a jump."""
    losses = np.array([5.9, 5.7, 5.7, 6.2, 5.8])
    for k in (1, 2, 3, 4):
        brute = np.mean([min(drawn) for drawn in product(losses, repeat=k)])
        assert expected_best(losses[None], k) == pytest.approx(brute)
    found = np.array([expected_best(losses[None], k)[0] for k in np.linspace(1, 40, 400)])
    assert (np.diff(found) < 0).all() and found[-1] == pytest.approx(5.7, abs=1e-6)
    assert (np.diff(found, 2) > -1e-12).all()
    grid = (np.arange(10_000) + 0.5) / 10_000
    for k in (1, 1.5, 2.7, 10):  # of the uniform distribution
        assert expected_best(grid[None], k) == pytest.approx(1 / (k + 1), abs=1e-4)


def test_deviations():
    """Pooled as in an analysis of variance; a group that deviates far more has its own."""
    draw = np.random.default_rng(1)
    groups = {str(i): draw.normal(i, 0.02, size) for i, size in enumerate((2, 2, 3, 4, 2, 2))}
    common, own = deviations(groups)
    residuals = np.concatenate([group - group.mean() for group in groups.values()])
    assert not own and common.freedom == len(residuals) - len(groups) == 9
    assert common.size == pytest.approx(np.sqrt((residuals**2).sum() / 9))
    again, own = deviations({**groups, "collapsed": [5.0, 5.4]})
    assert again == common and own.keys() == {"collapsed"}
    assert own["collapsed"] == pooled([[5.0, 5.4]]) and own["collapsed"].freedom == 1
    alone, own = deviations({"one": [1.0, 1.3], "single": [2.0]})
    assert (alone.freedom, alone.size) == (1, pytest.approx(0.3 / np.sqrt(2))) and not own
    # Among normal groups, one in a hundred tables has such a group.
    tables = draw.normal(size=(1000, 12, 2))
    rate = np.mean([bool(deviations(dict(enumerate(table)))[1]) for table in tables])
    assert rate < 0.02


def test_losses_and_their_interval(lines, comparison, tables):
    """Means of means, with Student's t at the pooled deviation; a baseline has the training's."""
    common, own = comparison.deviations(tables["found"].rows())
    assert (common.freedom, own) == (3, {})
    for strategy in STRATEGIES:
        line = lines[strategy]
        rows = [r for r in tables["found"].rows() if r["name"].startswith(strategy)]
        assert line.loss == pytest.approx(np.mean([float(row["loss_4000"]) for row in rows]))
        assert len(line.seeds) == 2 and np.mean(line.seeds) == pytest.approx(line.loss)
        half = stats.t.ppf(0.975, 3) * common.size / np.sqrt(2)
        assert line.loss_interval == pytest.approx((line.loss - half, line.loss + half))
    noise, baseline = comparison.benchmark.deviation(), lines["transformer"]
    assert noise.freedom == 16 and baseline.seeds == (5.91, 5.92)
    half = stats.t.ppf(0.975, 16) * noise.size / np.sqrt(2)
    assert baseline.loss_interval == pytest.approx((5.915 - half, 5.915 + half))
    assert [*lines] == sorted(lines, key=lambda name: lines[name].loss)
    assert lines["darts, without zero"].seeds == (5.5,)


def test_nothing_is_known_from_one_seed(tables, tmp_path):
    """Of a table whose models have one seed each, intervals are unknown, not empty."""
    random, found = Table(tmp_path / "random.csv"), []
    for row in tables["random"].rows():
        if row["seed"] == "1":
            random.add(row)
    for row in tables["found"].rows():
        if row["name"].endswith("-1") and row["seed"] == "1":
            found.append(row)
    comparison = Comparison(Benchmark(random.path), tables["searches"].rows())
    for line in comparison.lines(found):
        for pair in (line.loss_interval, line.percentile_interval, line.difference_interval):
            assert np.isnan(pair).all()
        assert 0 <= line.percentile <= 100
    assert "[–, –]" in markdown([line]) and np.isfinite(line.random_trainings_interval[0])


def test_place_of_a_strategy(lines, comparison):
    """That of its mean loss; the interval is wider than of an exactly known loss."""
    for line in lines.values():
        exact = comparison.benchmark.place(line.loss, line.parameters, errors=np.zeros(10_000))
        assert (line.percentile, line.adjusted) == (exact.percentile, exact.adjusted)
        for found, known in (
            (line.percentile_interval, exact.interval),
            (line.adjusted_interval, exact.adjusted_interval),
        ):
            assert found[0] <= known[0] and found[1] >= known[1]
        assert line.random_trainings == exact.trainings
        for loss, found in zip(line.seeds, line.seed_percentiles, strict=True):
            assert found == comparison.benchmark.place(loss, errors=np.zeros(10_000)).percentile


@pytest.mark.parametrize("search_only", [False, True])
@pytest.mark.parametrize("hours", [None, 0.25, 4.0])
def test_random_search_at_equal_cost(comparison, tables, hours, search_only):
    """k follows from passes or from CPU time; the difference is to the best of k."""
    comparison = replace(comparison, training_hours=hours, search_only=search_only)
    known = tables["baselines"].rows()
    losses = comparison.benchmark.column("loss_4000")
    for line in comparison.lines(tables["found"].rows(), baselines=known):
        if line.name == "transformer":
            assert line.cost is None and line.budget == 1
            assert line.random_loss == pytest.approx(losses.mean())
        else:
            passes = {"darts": 37_500, "gdas": 12_000, "uniform_sampling": 12_000 + 7_600}
            assert line.cost.passes == passes[line.name]
            assert (line.cost.cpu_hours, line.cost.peak_gb) == (1, 2)
            ratio = line.cost.passes / (4000 * TRAINING) if hours is None else 1 / hours
            assert line.budget == (max(1, ratio) if search_only else 1 + ratio)
        assert line.random_loss == pytest.approx(expected_best(losses[None], line.budget)[0])
        assert line.difference == pytest.approx(line.loss - line.random_loss)
        low, high = line.difference_interval
        assert low < line.difference < high
        assert high - low > line.loss_interval[1] - line.loss_interval[0]  # random genotypes too


def test_intervals_cover():
    """Of made-up experiments, about 95 % of the intervals have the true difference, here 0."""
    draw, covered = np.random.default_rng(3), []
    best_of_3 = stats.norm.expect(lambda x: x * 3 * stats.norm.sf(x) ** 2)
    for _ in range(100):
        groups = draw.normal(5.8 + 0.03 * best_of_3, 0.02, (12, 2))  # as good as the best of 3
        losses = draw.normal(5.8, 0.03, 48)
        errors = error_of_mean(pooled(groups), 2).rvs(2000, random_state=2)
        best = expected_best(losses[draw.integers(0, 48, (2000, 48))], 3)
        low, high = interval(groups[0].mean() + errors - best)
        covered.append(low < 0 < high)
    assert np.mean(covered) > 0.88


def test_files(lines, tmp_path):
    """All numbers can be read back; JSON has no infinity, which random search's cost may be."""
    lines = list(lines.values())
    save_lines(lines, tmp_path / "lines.json")
    read = json.loads((tmp_path / "lines.json").read_text(), parse_constant=pytest.fail)
    assert [row["name"] for row in read] == [line.name for line in lines]
    assert read[0]["random_trainings"] is None and lines[0].random_trainings == np.inf
    assert [row["seeds"] for row in read] == [list(line.seeds) for line in lines]
    save_lines(lines, tmp_path / "lines.csv")
    with (tmp_path / "lines.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    for line, row in zip(lines, rows, strict=True):
        assert float(row["difference_interval_low"]) == line.difference_interval[0]
        assert row["updates"] == ("" if line.cost is None else str(line.cost.updates))
        assert tuple(map(float, row["seeds"].split())) == line.seeds
    cells = [text.count("|") for text in markdown(lines).splitlines()]
    assert len(cells) == 2 + len(lines) and len(set(cells)) == 1


def test_picture(lines, comparison):
    """Equal bytes for equal lines; a baseline or a seed far away does not stretch the axis."""
    losses, lines = comparison.benchmark.column(comparison.end), list(lines.values())
    drawn = svg(picture(losses, lines))
    assert drawn == svg(picture(losses, lines)) != svg(picture(losses, lines[1:]))
    far = [replace(line, seeds=(3.0, 9.0), loss=6.0) for line in lines]
    for some in (lines, far, [line for line in far if line.cost]):
        low, high = picture(losses, some).axes[1].get_xlim()
        assert high - low == pytest.approx(2 * np.ptp(losses))
        assert low < losses.min() and losses.max() < high


def run(monkeypatch, *words) -> None:
    """Run a command of the benchmark in this process."""
    monkeypatch.setattr(sys, "argv", ["benchmark.py", *map(str, words)])
    command.main()


def test_command(tables, lines, tmp_path, monkeypatch, capsys):
    """It prints, writes and draws; what it lacks is named."""
    paths = {name: table.path for name, table in tables.items()}
    given = [w for n, path in paths.items() for w in (f"--{n.replace('_', '-')}", path)]
    run(monkeypatch, "compare", *given, "-o", tmp_path / "c.csv", "--plot", tmp_path / "c.svg")
    printed = capsys.readouterr().out
    assert all(f"| {name} |" in printed for name in (*STRATEGIES, "transformer"))
    assert "all: 0.0" in printed and (tmp_path / "c.svg").read_text().startswith("<?xml")
    run(monkeypatch, "compare", *given, "--search-seeds", 2, "-o", tmp_path / "second.json")
    for line in json.loads((tmp_path / "second.json").read_text()):
        if line["cost"]:
            both = lines[line["name"]].seeds
            assert line["seeds"] == [both[-1]] and len(line["seed_percentiles"]) == 1
    table = ["--random", paths["random"], "--searches", paths["searches"], "--found"]
    (tmp_path / "empty.csv").write_text(",".join(columns(4000)) + "\n")
    (tmp_path / "short.csv").write_text("name,seed,loss_2000\ndarts-1,1,6.0\n")
    for words, message in (
        ((*table, tmp_path / "none.csv"), "--found .*none.csv: there is no such table"),
        ((*table, tmp_path / "empty.csv"), "no training yet"),
        ((*table, tmp_path / "short.csv"), "darts-1 has no loss_4000"),
        ((*table, paths["baselines"]), "transformer is in no row of the table of searches"),
        ((*table, paths["found"], "--training-hours", 0), "--training-hours is 0.0, .* above 0"),
    ):
        with pytest.raises(SystemExit, match=message):
            run(monkeypatch, "compare", *words)


def test_baselines(tables, tmp_path):
    """They have the mean size of the random genotypes; without a genotype none is found."""
    (tmp_path / "data-bin").mkdir()
    (tmp_path / "data-bin" / "train.aa-bb.aa.idx").touch()
    runs = baselines(1, tmp_path, tmp_path / "out")
    assert [run.name for run in runs] == [model.name for model in MODELS] + ["paper_fig4_approx"]
    for run in runs:
        words = run.train_command()[2:]
        args = options.parse_args_and_arch(options.get_training_parser(), input_args=words)
        assert (args.encoder_layers, args.decoder_layers, args.max_update) == (2, 2, 4000)
    for run in runs[: len(MODELS)]:
        _, arch, *given = run.model_options()[0]
        cfg = training_config(arch, given)
        rates = cfg.model.dropout, cfg.model.attention_dropout, cfg.model.activation_dropout
        assert rates == (0.1, 0, 0)
        assert count_parameters(cfg, 4344) == pytest.approx(MEAN_PARAMETERS, rel=0.002)
    assert query("paper_fig4_approx", tables["baselines"].path) == []
