"""Language models of equal parameters, each trained alone: found, Transformers, random genotypes.

usage: compare.py size DATA --models MODELS --count N [--genotypes FILE ...]
       compare.py train DATA --models MODELS --table TABLE --out RUNS --seeds N --updates N
       compare.py report --table TABLE

`size` writes the models with their sizes. `train` adds a row to the table as each training ends;
several workers share the trainings. compare.sh does all of it.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from random import Random
from typing import ClassVar

import numpy as np
from fairseq.data import Dictionary

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "nas_benchmark"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tables"))
from jobs import ROOT, RunError, work
from matching import match_width
from placing import RESAMPLES, Benchmark, Deviation, Place, error_of_mean, pooled
from sampling import COLUMNS, LAYERS, NODES, RANDOM, to_cells
from scales import arguments
from table import Row, Table
from training import OPTIMIZATION, Run

import fairseq_dartsformer.cli  # noqa: F401 - silences notes of fairseq and hydra
from fairseq_dartsformer.errors import InputError
from fairseq_dartsformer.memory.planner import count_parameters, training_config
from fairseq_dartsformer.operations import ENCODER_OPERATIONS
from fairseq_dartsformer.search_space.genotype import Genotype

SHARED = {"decoder_layers": 4, "share_decoder_input_output_embed": True, "dropout": 0.1}
# Its number of parameters is that of all models.
TRANSFORMER = {
    **{f"decoder_{side}_dim": 128 for side in ("input", "embed", "output")},
    **{"decoder_ffn_embed_dim": 512, "decoder_attention_heads": 4},
}
# The hidden width follows from this number; the embedding differs a little.
REVERSIBLE = {"embed_dim": 128, "hidden_dim": 240, "attention_heads": 4}
WINDOW = 128  # tokens
ALL = "--required-batch-size-multiple 1"  # with 8, fairseq would skip a short validation text
EVALUATION = f"""
--gen-subset test --tokens-per-sample {WINDOW} --context-window 64 --max-tokens 4096 {ALL}
"""
WITHOUT = frozenset({"identity", "zero"})  # which run.sh does not derive
PERPLEXITY = re.compile(r"Perplexity: ([\d.]+)")


@dataclass(frozen=True)
class Model:
    """A language model with its sizes.

    Attributes:
        options: fairseq-train's architecture and sizes.
        genotype: ``None`` of a Transformer.
    """

    name: str
    options: tuple[str, ...]
    genotype: Genotype | None = None


@dataclass(frozen=True)
class TextRun(Run):
    """One training of a language model, with the perplexity of the test text."""

    named: Model
    optimization: ClassVar[str] = f"{OPTIMIZATION} --label-smoothing 0 --max-tokens 2048 {ALL}"
    scores: ClassVar[tuple[str, ...]] = ("test_perplexity",)

    def prepare_model(self) -> str:
        """Write the genotype, and return its text, empty of a Transformer."""
        return "" if self.named.genotype is None else super().prepare_model()

    def model_options(self) -> tuple[list[str], list[str]]:
        """The architecture with its sizes, and the genotype, if it has one."""
        sizes = ["--task", "language_modeling", "--tokens-per-sample", str(WINDOW)]
        genotype = [] if self.named.genotype is None else super().model_options()[1]
        return [*sizes, *self.named.options], genotype

    def cells(self) -> dict[str, str]:
        """The genotype, for the table."""
        genotype = self.named.genotype
        return dict.fromkeys(COLUMNS[1:], "") if genotype is None else to_cells(genotype)

    def data_options(self, folder: Path | None = None) -> list[str]:
        """The data and the plugin, for fairseq's commands."""
        return [str(folder or self.data), "--user-dir", str(ROOT / "fairseq_dartsformer")]

    def test(self, lock: int) -> dict[str, str]:
        """The perplexity of the test text."""
        log = self.folder / "eval.log"
        log.unlink(missing_ok=True)
        words = ["-m", "fairseq_cli.eval_lm", *self.data_options(), *EVALUATION.split()]
        self.execute([*words, "--path", str(self.trained())], log, lock)
        found = PERPLEXITY.search(log.read_text(encoding="utf-8"))
        if not found:
            raise RunError(f"{log} lacks the perplexity")
        return {"test_perplexity": found[1]}


def transformers() -> list[Model]:
    """fairseq's `transformer_lm`, post-LN and pre-LN."""
    options = {"arch": "transformer_lm", **SHARED, **TRANSFORMER}
    pre_ln = {**options, "decoder_normalize_before": True}
    named = {"transformer_lm": options, "transformer_lm_pre_ln": pre_ln}
    return [Model(name, tuple(arguments(options))) for name, options in named.items()]


def draw(seed: int) -> Iterator[Genotype]:
    """Random genotypes without end: every node is uniform among its candidates."""
    choice = Random(seed).choice
    while True:
        block = [[choice(ENCODER_OPERATIONS) for _ in range(NODES)] for _ in range(LAYERS)]
        yield Genotype(None, block, "max", "dartsformer_lm")


def derived(name: str, genotype: Genotype, vocabulary: int) -> Model:
    """A genotype at the widths at which it has as many parameters as the Transformer.

    Raises:
        InputError: there are none, or it is no language model of this space.
    """
    if genotype.family != "dartsformer_lm":
        raise InputError(f"genotype {name}: family is {genotype.family}, expected dartsformer_lm")
    arch, *given = transformers()[0].options[1:]
    target = count_parameters(training_config(arch, given), vocabulary)
    shared = {"decoder_layers": SHARED["decoder_layers"]}
    arch, text = "dartsformer_lm", genotype.to_json()
    sizes = match_width(arch, {**REVERSIBLE, **shared}, text, vocabulary, target)
    return Model(name, tuple(arguments({"arch": arch, **SHARED, **sizes})), genotype)


def sample(count: int, seed: int, vocabulary: int) -> list[Model]:
    """The first random genotypes that reach the Transformer's number of parameters.

    A longer list with the same seed begins with the shorter one.
    """

    def reaching() -> Iterator[Model]:
        number = 0
        for genotype in draw(seed):
            try:
                yield derived(f"{RANDOM}{number:03d}", genotype, vocabulary)
            except InputError:  # nearly all of its operations have no parameters
                continue
            number += 1

    return list(islice(reaching(), count))


def size(args: argparse.Namespace) -> None:
    """Write the models; the search for their sizes takes longer than all else before a training.

    Raises:
        InputError: two models would have one name, or as :func:`derived`.
    """
    names = [*(path.stem for path in args.genotypes), *(model.name for model in transformers())]
    for path in args.genotypes:
        if names.count(path.stem) > 1 or path.stem.startswith(RANDOM):
            raise InputError(
                f"--genotypes names {path}: {path.stem} must differ from the names of the others, "
                f"{', '.join(model.name for model in transformers())} and {RANDOM}..."
            )
    vocabulary = len(Dictionary.load(str(args.data / "dict.txt")))
    found = [derived(path.stem, Genotype.load(path), vocabulary) for path in args.genotypes]
    save(args.models, [*found, *transformers(), *sample(args.count, args.draw_seed, vocabulary)])


def save(path: Path, models: Iterable[Model]) -> None:
    """Write models as JSON, all or nothing."""
    records = [
        [model.name, model.options, model.genotype and model.genotype.to_json()] for model in models
    ]
    partial = path.with_suffix(".tmp")
    partial.write_text(json.dumps(records, indent=1), encoding="utf-8")
    partial.replace(path)


def load(path: Path) -> list[Model]:
    """Read what :func:`save` wrote."""
    return [
        Model(name, tuple(options), None if text is None else Genotype.from_json(text, str(path)))
        for name, options, text in json.loads(path.read_text(encoding="utf-8"))
    ]


def plan(models: Iterable[Model], seeds: int) -> list[tuple[Model, int]]:
    """Models with their training seeds; random ones have the first, by which others are placed."""
    return [
        (model, seed)
        for seed in range(1, seeds + 1)
        for model in models
        if seed == 1 or not model.name.startswith(RANDOM)
    ]


def train(args: argparse.Namespace) -> None:
    """Complete all trainings that no other worker has; the exit status is 1 if one failed."""
    where = args.data.resolve(), args.out.resolve(), args.updates
    runs = [TextRun(model, seed, *where) for model, seed in plan(load(args.models), args.seeds)]
    failed, held = work(runs, Table(args.table))
    for reason, some in (("failed", failed), ("held by another worker", held)):
        if some:
            print(f"{reason}: {', '.join(run.folder.name for run in some)}")
    sys.exit(bool(failed))


def report(args: argparse.Namespace) -> None:
    """Print the models as Markdown, with their percentiles among the random genotypes."""
    benchmark, able = Benchmark(args.table), Benchmark(args.table, WITHOUT)
    benchmarks = {"percentile": benchmark}
    with suppress(ValueError):  # of fewer than two genotypes
        able.random  # noqa: B018
        benchmarks[f"percentile without {', '.join(sorted(WITHOUT))}"] = able
    end = benchmark.losses[-1]

    def show(name: str, rows: list[Row], losses: np.ndarray, deviation: Deviation, **error) -> None:
        each = ", ".join(f"{loss:.3f}" for loss in losses)
        cells = [name, f"{column(rows, 'parameters').mean():,.0f}", f"{losses.mean():.3f} ({each})"]
        cells.append(
            estimate(np.log(column(rows, "test_perplexity")).mean(), deviation, len(losses))
        )
        cells += [percentile(b.place(losses.mean(), **error)) for b in benchmarks.values()]
        print(f"| {' | '.join(cells)} |")

    named = {n: rows for n, rows in benchmark.models.items() if not n.startswith(RANDOM)}
    logs = {name: np.log(column(rows, "test_perplexity")) for name, rows in named.items()}
    across_seeds = pooled([*logs.values()])
    print(
        "| model | parameters | valid loss (seeds) | test perplexity |", " | ".join(benchmarks), "|"
    )
    print("|---" * (4 + len(benchmarks)) + "|")
    for name, rows in named.items():
        losses = column(rows, end)
        show(name, rows, losses, across_seeds, seeds=len(losses))
    found = {name: rows for name, rows in named.items() if rows[0]["decoder"]}
    if len(found) > 1:
        # Searches differ by their seeds, too: each counts once.
        losses = np.array([column(rows, end).mean() for rows in found.values()])
        errors = error_of_mean(pooled([losses]), len(losses)).rvs(RESAMPLES, random_state=2)
        deviation = pooled([[logs[name].mean() for name in found]])
        rows = [row for rows in found.values() for row in rows]
        show(f"mean of the {len(found)} genotypes", rows, losses, deviation, errors=errors)
    first = [rows[0] for rows in benchmark.random.values()]
    losses, perplexity = column(first, end), np.log(column(first, "test_perplexity")).mean()
    cells = (
        f"{column(first, 'parameters').mean():,.0f} | {losses.mean():.3f}",
        f"{np.exp(perplexity):.1f}",
    )
    print(f"| {len(first)} random genotypes | {' | '.join(cells)} |" + " |" * len(benchmarks))
    print(f"\nloss of a random genotype: {losses.min():.3f} to {losses.max():.3f} bits, ", end="")
    print(f"deviation {losses.std(ddof=1):.3f}; across training seeds {benchmark.deviation()}")


def column(rows: Iterable[Row], name: str) -> np.ndarray:
    """A column's numbers."""
    return np.array([float(row[name]) for row in rows])


def estimate(mean: float, deviation: Deviation, count: int) -> str:
    """A perplexity with its 95 % interval, from the mean of ``count`` logarithms."""
    if not deviation.freedom:
        return f"{np.exp(mean):.1f} [–, –]"
    half = error_of_mean(deviation, count).ppf(0.975)
    return "{:.1f} [{:.1f}, {:.1f}]".format(*np.exp([mean, mean - half, mean + half]))


def percentile(place: Place) -> str:
    """A percentile with its interval."""
    low, high = place.interval
    return f"{place.percentile:.0f} [{low:.0f}, {high:.0f}]"


def get_parser() -> argparse.ArgumentParser:
    """The command line's parser."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    sizing = commands.add_parser("size", help="write the models, equally large")
    sizing.add_argument("--genotypes", type=Path, nargs="*", default=[], help="those found")
    sizing.add_argument("--count", type=int, required=True, help="of random genotypes")
    sizing.add_argument("--draw-seed", type=int, default=1, help="of the genotypes (default: 1)")
    training = commands.add_parser("train", help="train all models; each that ends adds a row")
    for command in (sizing, training):
        command.add_argument("data", type=Path, help="the binarised text")
        command.add_argument("--models", type=Path, required=True, help="the models, as JSON")
    training.add_argument("--out", type=Path, required=True, help="the folder of all runs")
    training.add_argument(
        "--seeds", type=int, required=True, help="trainings of each model that is not random"
    )
    training.add_argument("--updates", type=int, required=True, help="a multiple of 8")
    for command in (training, commands.add_parser("report", help="compare the models")):
        command.add_argument("--table", type=Path, required=True, help="the trainings, as CSV")
    return parser


def main() -> None:
    """Run a command."""
    args = get_parser().parse_args()
    try:
        {"size": size, "train": train, "report": report}[args.command](args)
    except (RunError, InputError, ValueError, OSError) as error:
        sys.exit(f"compare.py: error: {error}")
    except KeyboardInterrupt:
        sys.exit("compare.py: interrupted; the same command continues")


if __name__ == "__main__":
    main()
