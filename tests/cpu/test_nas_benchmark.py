"""`examples/nas_benchmark`: sampling, the job list, the table and the place of a loss in it."""

import json
import sys
from collections import Counter
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from fairseq import options
from scipy import stats

from fairseq_dartsformer.operations import DECODER_OPERATIONS, ENCODER_OPERATIONS
from fairseq_dartsformer.search_space.genotype import BUILTIN

sys.path.insert(0, str(Path(__file__).parents[2] / "examples" / "nas_benchmark"))
from jobs import RunError, locked, work
from placing import Benchmark, place, query
from prepare import select
from sampling import Named, from_cells, read_list, sample, to_cells, write_list
from table import Table, columns, lengths
from training import Run, read_log
from warm_start import WarmStart, warm_starts

SPLITS = ("train", "valid", "test")


def test_selection_of_text(tmp_path):
    """Raw pairs of 3 to 20 words on both sides, counted after tokenisation, in every split."""
    counts, kept = list(product((2, 3, 20, 21), repeat=2)), list(product((3, 20), repeat=2))

    def text(split: str, words: list[int]) -> str:  # the full stop is a word
        return "".join(f"{' '.join([split] * (n - 1))}.\n" for n in words)

    (tmp_path / "raw").mkdir()
    for split, (side, language) in product(SPLITS, enumerate(("en", "de"))):
        path = tmp_path / "raw" / f"{split}.{language}"
        path.write_text(text(split, [pair[side] for pair in counts]))
    select(str(tmp_path / "raw"), tmp_path / "text", ["en", "de"], workers=1)
    assert len(list((tmp_path / "text").iterdir())) == 6
    for split, (side, language) in product(SPLITS, enumerate(("en", "de"))):
        found = (tmp_path / "text" / f"{split}.{language}").read_text()
        assert found == text(split, [pair[side] for pair in kept])


def test_sample():
    """A seed gives one list, of which a shorter one is the beginning; nodes are uniform."""
    first = sample(48, seed=1)
    assert sample(48, seed=1) == first and sample(5, seed=1) == first[:5]
    assert len({named.genotype for named in first} | {n.genotype for n in sample(48, seed=2)}) == 96
    assert len({named.name for named in first}) == 48
    genotypes = [named.genotype for named in sample(2000, seed=3)]
    for stack, candidates in (("encoder", ENCODER_OPERATIONS), ("decoder", DECODER_OPERATIONS)):
        for layer, node in product(range(2), repeat=2):
            counts = Counter(getattr(g, stack)[layer][node] for g in genotypes)
            assert counts.keys() == set(candidates)
            assert stats.chisquare([*counts.values()]).pvalue > 1e-4
    assert {layer[2:] for g in genotypes for layer in g.decoder} == {("cross_attention",)}
    assert {(g.pooling, len(g.encoder), len(g.decoder)) for g in genotypes} == {("max", 2, 2)}


def test_list_of_genotypes(tmp_path):
    """It is read as it was written; a file without its columns is refused."""
    named = [*sample(20, seed=1), Named("figure-4", BUILTIN["paper_fig4_approx"])]
    write_list(tmp_path / "list.csv", named)
    assert read_list(tmp_path / "list.csv") == named
    (tmp_path / "other.csv").write_text("name,encoder\n")
    with pytest.raises(ValueError, match="no column pooling and decoder"):
        read_list(tmp_path / "other.csv")


def row_of(run: Run, **cells) -> dict[str, str]:
    """A row with made-up numbers."""
    numbers = dict.fromkeys(columns(run.updates), "1.000")
    row = {"name": run.named.name, **to_cells(run.named.genotype), "seed": str(run.seed)}
    return numbers | row | cells


class MadeUpRun(Run):
    """Completes at once; `broken` names those that fail, `completed` notes the order."""

    broken: set[str]
    completed: list[str]

    def complete(self, lock):
        if self.folder.name in self.broken:
            raise RunError("broken")
        self.completed.append(self.folder.name)
        return row_of(self)


@pytest.fixture
def runs(tmp_path) -> list[Run]:
    """Three genotypes with two seeds each."""
    MadeUpRun.completed, MadeUpRun.broken = [], set()
    where = tmp_path, tmp_path / "runs"
    return [MadeUpRun(named, seed, *where) for seed in (1, 2) for named in sample(3, 1)]


def test_job_list_goes_on(runs, tmp_path):
    """A worker leaves out what is in the table or held by another, and tries again what failed."""
    table, names = Table(tmp_path / "table.csv"), [run.folder.name for run in runs]
    assert work(runs[:2], table) == ([], [])
    MadeUpRun.broken = {names[2]}
    with locked(runs[3].folder) as lock:
        assert lock is not None
        assert work(runs, table) == ([runs[2]], [runs[3]])
    assert MadeUpRun.completed == [*names[:2], *names[4:]]
    MadeUpRun.broken = set()
    assert work(runs, table) == ([], [])
    assert MadeUpRun.completed[4:] == names[2:4]
    assert work(runs, table) == ([], []) and len(MadeUpRun.completed) == len(runs)
    keys = [(row["name"], int(row["seed"])) for row in table.rows()]
    assert keys == sorted((run.named.name, run.seed) for run in runs)


def test_table_keeps_its_columns(runs, tmp_path):
    """A row is replaced by one of its name and seed; other columns are refused."""
    table = Table(tmp_path / "table.csv")
    for bleu in ("1.00", "2.00"):
        table.add(row_of(runs[0], bleu=bleu))
    assert [row["bleu"] for row in table.rows()] == ["2.00"]
    with pytest.raises(ValueError, match="other columns"):
        table.add(dict.fromkeys(columns(2000), "1"))


def test_train_command(runs, tmp_path):
    """fairseq-train takes it; a folder serves one training."""
    (tmp_path / "data-bin").mkdir()
    (tmp_path / "data-bin" / "train.aa-bb.aa.idx").touch()
    _, module, *words = runs[0].train_command()
    args = options.parse_args_and_arch(options.get_training_parser(), input_args=words)
    assert (module, args.arch, args.max_update) == ("fairseq_cli.train", "dartsformer", 4000)
    assert args.validate_interval_updates == args.save_interval_updates == 500
    assert (args.source_lang, args.target_lang, args.seed) == ("aa", "bb", 1)
    runs[0].folder.mkdir(parents=True)
    other = Run(runs[1].named, 1, tmp_path, tmp_path / "runs")
    (runs[0].folder / "run.json").write_text(json.dumps([""]))
    (tmp_path / "runs" / other.folder.name).symlink_to(runs[0].folder)
    with pytest.raises(RunError, match="other options"):
        other.complete(lock=0)


def test_read_log():
    """Losses of all four lengths, of repeated validations the last; none may be missing."""
    lines = ["x | INFO | fairseq_cli.train | num. shared model params: 1,234 (num. trained: 1)"]
    for n in (*range(1, 9), 4):
        values = {"valid_loss": f"{9 - n / 2}", "valid_nll_loss": "5", "valid_num_updates": str(n)}
        lines.append(f"x | INFO | valid | {json.dumps(values)}")
    row = read_log("\n".join(lines), 8)
    assert row["parameters"] == "1234" and row["nll_loss_8"] == "5.000"
    assert [row[f"loss_{n}"] for n in lengths(8)] == ["8.500", "8.000", "7.000", "5.000"]
    with pytest.raises(RunError, match="lacks"):
        read_log("\n".join(lines[:-2]), 8)


@pytest.fixture
def benchmark(tmp_path) -> Benchmark:
    """48 random genotypes: the loss falls by 0.1 with each doubling of parameters, plus noise."""
    generator = np.random.default_rng(1)
    table = Table(tmp_path / "table.csv")
    for number, named in enumerate(sample(48, seed=1)):
        size = int(2 ** generator.uniform(18, 20))
        loss = 8 - 0.1 * np.log2(size) + generator.normal(0, 0.02)
        for seed in (1, 2, 3) if number < 8 else (1,):
            run = Run(named, seed, tmp_path, tmp_path)
            cells = {"parameters": f"{size}", "cpu_seconds": "1800"}
            end = f"{loss + generator.normal(0, 0.005):.3f}"
            table.add(row_of(run, loss_4000=end, loss_2000=end, **cells))
    return Benchmark(table.path)


def test_query(benchmark):
    """All trainings of a genotype, given in any form; none of an unknown one."""
    named = sample(1, seed=1)[0]
    for given in (named.genotype, named.genotype.to_json()):
        rows = query(given, benchmark.path)
        assert [(row["name"], row["seed"]) for row in rows] == [(named.name, s) for s in "123"]
        assert from_cells(rows[0]) == named.genotype
    assert query("paper_fig4_approx", benchmark.path) == []


def test_percentile(benchmark):
    """As scipy's, from the other end; its interval has it."""
    losses = benchmark.column("loss_4000")
    assert len(losses) == 48
    for loss in np.linspace(5.9, 6.3, 9):
        found = benchmark.place(loss)
        below = stats.percentileofscore(losses, loss, kind="mean")
        assert found.percentile == pytest.approx(100 - below)
        assert found.interval[0] <= found.percentile <= found.interval[1]
    assert place(losses[0], path=benchmark.path).percentile == benchmark.place(losses[0]).percentile
    median = float(np.median(losses))
    wide, narrow = (benchmark.place(median, seeds=n).interval for n in (1, 10_000))
    assert wide[1] - wide[0] >= narrow[1] - narrow[0] > 15


def test_percentile_at_equal_parameters(benchmark):
    """That of the residual of a regression: a loss on the line is never extreme, whatever size."""
    sizes, losses = np.log(benchmark.column("parameters")), benchmark.column("loss_4000")
    line = np.polynomial.Polynomial.fit(sizes, losses, 1)
    for doublings in (18.2, 19, 19.8):
        size = round(2**doublings)
        for above in (-0.03, 0, 0.02):
            found = benchmark.place(line(np.log(size)) + above, parameters=size)
            assert found.adjusted == pytest.approx(100 * (losses - line(sizes) > above).mean())
            assert found.adjusted_interval[0] <= found.adjusted <= found.adjusted_interval[1]
    assert benchmark.place(line(sizes.min())).percentile < 20
    assert benchmark.place(6.0).adjusted is None


def test_cost_of_random_search(benchmark):
    """The number of trainings is 1 / p; where no random genotype got there, only a bound is."""
    losses = np.sort(benchmark.column("loss_4000"))
    found = benchmark.place(losses[11])
    assert found.trainings == 48 / 12 and found.cpu_hours == found.trainings / 2
    assert found.trainings_interval[0] <= found.trainings <= found.trainings_interval[1]
    unreached = benchmark.place(losses[0] - 0.001)
    assert unreached.trainings == unreached.cpu_hours == np.inf
    assert 12 < unreached.trainings_interval[0] < 16 and unreached.trainings_interval[1] == np.inf


def test_noise_and_tau(benchmark):
    """The deviation across seeds is found again, and rankings that agree; a table is needed."""
    assert 0.003 < benchmark.deviation().size < 0.008
    taus = benchmark.tau_of_lengths()
    assert taus.keys() == {"loss_500", "loss_1000", "loss_2000"}
    assert taus["loss_2000"] == pytest.approx(1)
    with pytest.raises(ValueError, match="two random genotypes or more"):
        place(6.0, path=Path("no such table"))
    assert benchmark.tau_of_seeds().keys() == {("1", "2"), ("1", "3"), ("2", "3")}
    assert min(benchmark.tau_of_seeds().values()) > 0.5


def test_random_genotypes_of_a_smaller_space(benchmark):
    """Those with an operation can be left out; all of them tell the deviation across seeds."""
    smaller = Benchmark(benchmark.path, frozenset({"zero", "conv_3"}))
    assert 2 < len(smaller.random) < len(benchmark.random)
    for name, rows in benchmark.random.items():
        used = {*rows[0]["encoder"].split(), *rows[0]["decoder"].split()}
        assert (name in smaller.random) == used.isdisjoint({"zero", "conv_3"})
    assert smaller.deviation() == benchmark.deviation()


def test_warm_start(tmp_path):
    """It is reached between two validations, at the first one, or never."""
    for name, last in (("fresh", 6.0), ("warm", 5.0)):
        folder = tmp_path / name / "darts-1.seed1"
        folder.mkdir(parents=True)
        lines = [
            "| valid | " + json.dumps({"valid_num_updates": str(n), "valid_loss": str(loss)}) + "\n"
            for n, loss in ((500, 9.0), (1000, 7.0), (2000, last))
        ]
        (folder / "train.log").write_text("".join(lines))
        assert not [*warm_starts(tmp_path / "fresh", tmp_path / "warm")]  # they have not ended
        (folder / "cpu_seconds").write_text("1")
    (found,) = warm_starts(tmp_path / "fresh", tmp_path / "warm")
    assert found.reached == 1500 and "reaches 6.000 after 1500 updates" in str(found)
    assert WarmStart("a", {9: 9.0}, {9: 8.0}).reached == 9
    never = WarmStart("a", {9: 9.0}, {9: 10.0})
    assert never.reached == np.inf and str(never).endswith("it reaches 9.000 never")
