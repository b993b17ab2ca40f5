"""`examples/tables`: all rows can be built, models have equal size, a table is made once."""

import json
import re
import shutil
import sys
from pathlib import Path

import pytest
from fairseq import options
from fairseq.dataclass.utils import convert_namespace_to_omegaconf
from helpers.models import uniform_genotype

from fairseq_dartsformer.cli.parameters import TRANSFORMERS
from fairseq_dartsformer.memory.planner import count_parameters

sys.path.insert(0, str(Path(__file__).parents[2] / "examples" / "tables"))
import run
from commands import Step, StepError
from data_set import Data
from matching import TOLERANCE, match, model_config
from runner import Runner, random_genotype
from scales import SCALES
from tables import TABLES, Row, Table

ROWS = [row for table in TABLES.values() for row in table.rows]


def test_the_papers_numbers():
    """Every row has one, except those that are not in the paper."""
    assert [len(table.rows) for table in TABLES.values()] == [13, 6, 2, 21, 7, 8]
    for row in ROWS:
        bare = row.cells in {("Transformer", "small"), ("Transformer", "medium")}  # Figure 5
        assert bool(row.paper) != (bare or "not in the paper" in row.cells[0])
    for table in TABLES.values():
        cells = [row.cells for row in table.rows]
        assert len(set(cells)) == len(cells) and {len(c) for c in cells} == {len(table.head)}
        assert all(set(row.paper) <= set(table.measures) for row in table.rows)
        assert {row.against for row in table.rows} - {None} <= set(cells)
    # A model that several tables share has one BLEU.
    shared: dict[tuple[str, int], set[str]] = {}
    for row in (row for row in ROWS if row.arch and "BLEU" in row.paper):
        shared.setdefault((row.name, row.pair), set()).add(row.paper["BLEU"])
    assert {len(scores) for scores in shared.values()} == {1}


def built(command: tuple[str, list[str]]):
    """fairseq's configuration of a training."""
    module, given = command
    assert module == "fairseq_cli.train"
    namespace = options.parse_args_and_arch(options.get_training_parser(), input_args=given)
    return convert_namespace_to_omegaconf(namespace)


@pytest.mark.parametrize("scale", ["tiny", "short", "paper"])
def test_every_kind_of_command(scale, data, tmp_path):
    """fairseq parses it; all trainings of a size have one schedule, all searches another."""
    corpus = Data(data, data.parent / "test.bb")
    runner = Runner(SCALES[scale], tmp_path, corpus, [corpus] * 3)
    (tmp_path / "darts").write_text(TRANSFORMERS[0].to_json())
    schedules: dict[str, set[tuple]] = {}
    searches = (row.search for row in ROWS if row.search)  # differ also in pooling and splits
    for search in {tuple(s.name.split(".")[:3]): s for s in searches}.values():
        cfg = built(runner.search_command(search, 3, tmp_path))
        if scale == "short" and search.strategy == "uniform_sampling":
            assert cfg.optimization.max_update == 4000
            cfg.optimization.max_update = 1000
        schedules.setdefault("search", set()).add(schedule(cfg, SCALES[scale].matched))
        assert cfg.common.seed == 3 and cfg.task.search_strategy == search.strategy
    rows = (row for row in ROWS if row.arch and row.pair == 0)
    for row in {(row.arch, row.size): row for row in rows}.values():
        genotype = None
        if row.arch in ("dartsformer", "darts_transformer"):
            genotype = tmp_path / "darts" if row.arch != "dartsformer" else "paper_fig4_approx"
        sizes = SCALES[scale].sizes[row.arch][row.size]
        cfg = built(runner.train_command(row, 3, tmp_path, genotype, sizes))
        schedules.setdefault(row.size, set()).add(schedule(cfg, SCALES[scale].matched))
    assert schedules.keys() == {"search", "small", "medium", "base", "big"}
    assert {len(of_one) for of_one in schedules.values()} == {1}


def schedule(cfg, matched: bool) -> tuple:
    rates = (tuple(cfg.optimization.lr), cfg.lr_scheduler.warmup_updates, cfg.model.dropout)
    if matched:
        rates += (cfg.model.attention_dropout, cfg.model.activation_dropout)
    batches = (cfg.dataset.max_tokens, tuple(cfg.optimization.update_freq))
    return (*rates, *batches, cfg.optimization.max_update, cfg.criterion._name)


@pytest.mark.parametrize("scale, vocabulary", [("tiny", 3000), ("short", 4344)])
def test_models_are_equally_large(scale, vocabulary):
    sizes = SCALES[scale].sizes
    genotypes = [random_genotype(1), uniform_genotype("conv_11", 2, "max")]
    genotypes.append(uniform_genotype("ffn", 3, "avg"))
    models = [("evolved_transformer", None), ("darts_transformer", TRANSFORMERS[0].to_json())]
    models += [("dartsformer", genotype.to_json()) for genotype in genotypes]
    plain = model_config("transformer", sizes["transformer"]["base"], None)
    target = count_parameters(plain, vocabulary)
    for arch, genotype in models:
        found = match(arch, sizes[arch]["base"], genotype, vocabulary, target)
        count = count_parameters(model_config(arch, found, genotype), vocabulary)
        assert count == pytest.approx(target, rel=TOLERANCE)


@pytest.mark.long
def test_a_table(data, tmp_path, monkeypatch, capsys):
    """All ways from a search to a genotype, training and translation, once."""
    reference = data.parent / "test.bb"
    given = ["table1", "--scale", "tiny", "--data", str(data), "--reference", str(reference)]
    given += ["--out", str(tmp_path), "--rows", "Sampling max", "DARTSformer max 1", "perturbation"]
    given += ["--search-updates", "2", "--train-updates"]
    small = {"population": 6, "parents": 2, "mutations": 2, "crossovers": 2, "generations": 1}
    for option, number in {**small, "workers": 1}.items():
        monkeypatch.setitem(SCALES["tiny"].evolve, option, number)
    run.main([*given, "3"])
    text = (tmp_path / "tiny" / "table1.md").read_text()
    assert text.strip() in capsys.readouterr().out
    row = r"^\| {} \| ([\d.]+)M \| {}M \| [\d.]+ ± [\d.]+ \| {} \| 0\.\d+ \| \d\.\d+ GB \|$"
    sampling = re.search(row.format(r"Sampling \| max \| 2", "60.1", "18.7"), text, re.M)
    derived = re.search(row.format(r"DARTSformer \| max \| 1", "64.5", "27.9"), text, re.M)
    assert float(sampling[1]) == pytest.approx(float(derived[1]), rel=0.03)
    assert "random" not in text
    results = json.loads((tmp_path / "tiny" / "table1.json").read_text())["results"]
    assert [list(r["steps"]) for r in results] == [
        ["search", way, "train", "generate", "bleu"] for way in ("evolve", "derive", "perturbation")
    ]
    for result in results:
        assert result["updates"] == 2 and result["hours of search"] > 0
        costs = ("seconds", "cpu_seconds", "peak_bytes")
        assert all(step[cost] > 0 for step in result["steps"].values() for cost in costs)
        train = result["steps"]["train"]["command"]
        folder = Path(train[train.index("--save-dir") + 1])
        assert len((folder / "test.hypotheses").read_text().splitlines()) == 50
        assert "num_updates=3" in (folder / "train.log").read_text()

    def execute(step: Step, record: dict):
        raise AssertionError(record)

    monkeypatch.setattr(Step, "_execute", execute)
    run.main([*given, "3", "--rows", "Sampling max"])  # of the other it keeps what is known
    assert (tmp_path / "tiny" / "table1.md").read_text() == text
    with pytest.raises(SystemExit) as stop:
        run.main([*given, "4"])
    assert stop.value.code == 1
    assert "with --max-update 3 (now --max-update 4)" in capsys.readouterr().err


def corpus(folder: Path) -> Data:
    """Data with empty files, of the language that begins the folder's name."""
    folder.mkdir()
    for split in ("train", "valid", "test"):
        (folder / f"{split}.en-{folder.name[:2]}.en.idx").touch()
    (folder / "reference").touch()
    return Data(folder, folder / "reference")


def test_data_go_to_the_rows_of_their_language(tmp_path):
    fr, de, ru, other = (corpus(tmp_path / name) for name in ("fr", "de", "ru", "de2"))
    assert run._placed([fr, de], TABLES["table4"]) == [de, fr, None]
    assert run._placed([fr], TABLES["table1"]) == [fr]
    for data, table, message in (
        ([ru], "table4", "de, fr, cs"),
        ([de, other], "table4", "are both of de"),
        ([de, fr], "table3", "2 folders, this table takes one"),
    ):
        with pytest.raises(StepError, match=message):
            run._placed(data, TABLES[table])


def test_runs_of_replaced_data_are_kept_apart(data, tmp_path):
    shutil.copytree(data, tmp_path / "here")
    names = set()
    for text in ("", "another 1\n"):
        with (tmp_path / "here" / "dict.aa.txt").open("a") as dictionary:
            dictionary.write(text)
        names |= {Data(tmp_path / "here", data.parent / "test.bb").name for _ in range(2)}
    assert len(names) == 2


def test_render():
    rows = (
        Row(("a",), {"BLEU": "20.0"}),
        Row(("b",), {"gain": "1.3"}, against=("a",)),
        Row(("c",)),
    )
    table = Table("", ("model",), ("parameters", "BLEU", "gain"), rows)
    results = [
        {"row": (name,), "seed": seed, "parameters": size, "BLEU": score, "confidence": 0.7}
        for name, seed, size, score in [  # in any order
            ("b", 1, 2_020_000, 14.0),
            ("b", 0, 2_000_000, 13.0),
            ("a", 1, 2_000_001, 12.0),
            ("a", 0, 2_000_000, 10.0),
        ]
    ]
    assert run.render(table, rows, results).splitlines() == [
        "| model | parameters | BLEU | BLEU, the paper's | gain | gain, the paper's |",
        "| --- | --- | --- | --- | --- | --- |",
        "| a | 2.00M | 11.0 (10.0 ± 0.7, 12.0 ± 0.7) | 20.0 |  |  |",
        "| b | 2.01M (2.00M to 2.02M) | 13.5 (13.0 ± 0.7, 14.0 ± 0.7) |  | +2.5 | 1.3 |",
        "| c |  |  |  |  |  |",
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("table1 --data {0}", "expected one binarised pair of languages"),
        ("table1 --data {1}", "--reference: there is no file"),
        ("table1 --data {1} {1} --reference {2}", "1 files for 2 of --data"),
        ("table1 --data {1} --reference {2} --rows Neither", "no row of table1"),
        ("figure1 --seeds 2", "figure1 is planned, not run: it does not take --seeds"),
    ],
)
def test_bad_input(arguments, message, data, tmp_path, capsys):
    given = arguments.format(tmp_path, data, data.parent / "test.bb").split()
    with pytest.raises(SystemExit) as stop:
        run.main([*given, "--out", str(tmp_path)])
    assert stop.value.code and message in capsys.readouterr().err
