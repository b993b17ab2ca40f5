"""The architecture benchmark: sample genotypes, train each alone, place a loss among theirs.

usage: python examples/nas_benchmark/benchmark.py sample -o random.csv
       python examples/nas_benchmark/benchmark.py train random.csv --data DATA --out RUNS
       python examples/nas_benchmark/benchmark.py baselines --data DATA --out RUNS
       python examples/nas_benchmark/benchmark.py search darts gdas --data DATA --out SEARCHES
       python examples/nas_benchmark/benchmark.py found SEARCHES/table.csv -o found.csv
       python examples/nas_benchmark/benchmark.py compare --searches TABLE --found TABLE
       python examples/nas_benchmark/benchmark.py warm-start RUNS WARM
       python examples/nas_benchmark/benchmark.py supernet CHECKPOINT --data DATA
       python examples/nas_benchmark/benchmark.py place 5.87 --parameters 400000
       python examples/nas_benchmark/benchmark.py report
"""

from __future__ import annotations

import argparse
import logging
import math
import sys
from pathlib import Path

import numpy as np
from baselines import baselines
from comparing import Comparison
from comparison_files import markdown, save_lines
from jobs import Job, RunError, work
from placing import TABLE, Benchmark
from sampling import Named, read_list, sample, write_list
from searching import Search, found_in
from settings import BUDGET_UPDATES, PERTURBATION, SETTINGS
from supernet import rank, tau_interval, write
from table import Table
from training import UPDATES, Run
from warm_start import warm_starts

from fairseq_dartsformer.errors import InputError
from fairseq_dartsformer.operations import DECODER_OPERATIONS


def get_parser() -> argparse.ArgumentParser:
    """The command line's parser."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser("sample", help="write genotypes that are drawn uniformly")
    command.add_argument("--count", type=int, default=48, help="(default: 48)")
    command.add_argument("--seed", type=int, default=1, help="(default: 1)")
    command.add_argument("-o", "--out", type=Path, required=True, metavar="FILE")

    training = commands.add_parser("train", help="train genotypes; each that ends adds a row")
    training.add_argument("genotypes", type=Path, help="a file that `sample` has written")
    training.add_argument("--first", type=int, metavar="N", help="only the first N genotypes")
    training.add_argument(
        "--warm-start",
        type=Path,
        metavar="SEARCHES",
        help="the folder of `search`: genotypes begin with the weights of the searches they are of",
    )
    known = commands.add_parser("baselines", help="train known models by the same protocol")
    search = commands.add_parser("search", help="search by the comparison's settings")
    search.add_argument("strategies", nargs="+", choices=SETTINGS, metavar="STRATEGY")
    for command, seeds in ((training, [1]), (known, [1, 2]), (search, [1, 2])):
        command.add_argument("--data", type=Path, required=True, help="the folder of prepare.py")
        command.add_argument("--out", type=Path, required=True, help="the folder of all runs")
        command.add_argument("--table", type=Path, help="(default: OUT/table.csv)")
        note = f"(default: {' '.join(map(str, seeds))})"
        command.add_argument("--seeds", type=int, nargs="+", default=seeds, help=note)
    for command in (training, known):
        note = f"(default: {UPDATES})"
        command.add_argument("--updates", type=int, default=UPDATES, help=note)
    note = f"of darts; of others, as many as cost the same (default: {BUDGET_UPDATES})"
    search.add_argument("--updates", type=int, default=BUDGET_UPDATES, help=note)
    search.add_argument("--with-zero", action="store_true", help="zero is a candidate, too")
    note = "a table of dartsformer-latency, and milliseconds: the searches' penalty on latency"
    search.add_argument("--latency", nargs=2, metavar=("TABLE", "MS"), help=note)
    help = "select node by node, by perturbation on training text, not by every node's argmax"
    search.add_argument("--perturbation", action="store_true", help=help)

    command = commands.add_parser("found", help="write the genotypes of a table of searches")
    command.add_argument("table", type=Path)
    command.add_argument("--without-zero", action="store_true", help="those derived without zero")
    command.add_argument("-o", "--out", type=Path, required=True, metavar="FILE")

    compare = commands.add_parser("compare", help="compare what the strategies found")
    compare.add_argument("--random", type=Path, default=TABLE, help="table of random genotypes")
    for table, help in (
        ("searches", "table of `search`"),
        ("found", "table of trainings of the genotypes that `found` wrote"),
        ("without-zero", "the same for `found --without-zero`"),
        ("baselines", "table of `baselines`"),
    ):
        required = table in ("searches", "found")
        compare.add_argument(f"--{table}", type=Path, required=required, help=help)
    seeds = "compare these search seeds alone, as those that did not choose the finalists"
    compare.add_argument("--search-seeds", type=int, nargs="+", metavar="N", help=seeds)
    hours = "compare costs in CPU time: CPU hours of a random genotype's training on the machine of"
    compare.add_argument("--training-hours", type=float, metavar="H", help=f"{hours} the searches")
    only = "a search's cost leaves out the training of its genotype"
    compare.add_argument("--search-only", action="store_true", help=only)
    compare.add_argument("--plot", type=Path, metavar="FILE", help="draw the losses, as SVG")
    compare.add_argument("-o", "--out", type=Path, metavar="FILE", help="all numbers: CSV or .json")

    command = commands.add_parser("supernet", help="rank random genotypes by a search's weights")
    command.add_argument("checkpoint", type=Path, help="of a search")
    command.add_argument("--data", type=Path, required=True, help="the folder of prepare.py")
    command.add_argument("--table", type=Path, default=TABLE, help="(default: the published)")
    command.add_argument("-o", "--out", type=Path, metavar="FILE", help="the scores, as CSV")

    command = commands.add_parser("warm-start", help="updates that a warm start saves")
    command.add_argument("fresh", type=Path, metavar="RUNS", help="the folder of `train`")
    help = "the same of `train --warm-start`"
    command.add_argument("warm", type=Path, metavar="WARM", help=help)

    place = commands.add_parser("place", help="place a loss among the random genotypes")
    place.add_argument("loss", type=float, help="validation loss at the end, in bits")
    place.add_argument("--parameters", type=int, help="of the model")
    place.add_argument("--seeds", type=int, default=1, help="trainings that it is the mean of")
    report = commands.add_parser("report", help="what the table says of itself")
    for command in (place, report):
        command.add_argument("--table", type=Path, default=TABLE, help="(default: the published)")
    note = "leave out random genotypes that have one of these operations"
    for command in (compare, place, report):
        command.add_argument(
            "--leave-out",
            nargs="+",
            default=(),
            choices=DECODER_OPERATIONS,
            metavar="OPERATION",
            help=note,
        )
    return parser


def train(args: argparse.Namespace) -> None:
    """Complete all runs that no other worker has; the exit status is 1 if one failed."""
    if args.updates < 8 or args.updates % 8:
        raise ValueError(f"--updates is {args.updates}, it must be a multiple of 8")
    where = args.data.resolve(), args.out.resolve(), args.updates
    if args.command == "baselines":
        runs = [run for seed in args.seeds for run in baselines(seed, *where)]
    else:
        named = read_list(args.genotypes)[: args.first]
        runs = [
            Run(n, seed, *where, args.warm_start and search_of(n, args.warm_start))
            for seed in args.seeds
            for n in named
        ]
    complete(runs, args)


def search_of(named: Named, searches: Path) -> Path:
    """The checkpoint of the search that found a genotype, which `found` named STRATEGY-SEED."""
    strategy, _, seed = named.name.rpartition("-")
    folder = f"{strategy.removesuffix(PERTURBATION)}.seed{seed}"
    checkpoint = searches.resolve() / folder / "checkpoint_last.pt"
    if not checkpoint.exists():
        raise ValueError(f"--warm-start {searches}: {named.name} needs {checkpoint}")
    return checkpoint


def warm_start(args: argparse.Namespace) -> None:
    """Print when trainings with a warm start reach the loss that fresh ones have at their end."""
    compared = [*warm_starts(args.fresh, args.warm)]
    if not compared:
        raise ValueError(f"{args.warm}: no training ended there that also ended in {args.fresh}")
    print(*compared, sep="\n")


def search(args: argparse.Namespace) -> None:
    """Complete all searches that no other worker has; the exit status is 1 if one failed."""
    data, out = args.data.resolve(), args.out.resolve()
    if args.updates < 1:
        raise ValueError(f"--updates is {args.updates}, it must be positive")
    for option in ("latency", "perturbation"):
        if getattr(args, option) and "uniform_sampling" in args.strategies:
            raise ValueError(f"--{option}: uniform_sampling learns no alpha")
    if args.perturbation and args.with_zero:
        raise ValueError("--perturbation derives one genotype, --with-zero two: give one of them")
    latency = None
    if args.latency:
        latency = Path(args.latency[0]).resolve(), float(args.latency[1])
    where = (data, out, args.updates, args.with_zero, latency, args.perturbation)
    searches = [Search(n, seed, *where) for seed in args.seeds for n in args.strategies]
    complete(searches, args)


def complete(runs: list[Job], args: argparse.Namespace) -> None:
    """Complete the runs; the exit status is 1 if one failed."""
    failed, held = work(runs, Table(args.table or args.out.resolve() / "table.csv"))
    for reason, some in (("failed", failed), ("held by another worker", held)):
        if some:
            print(f"{reason}: {', '.join(run.folder.name for run in some)}")
    sys.exit(bool(failed))


def found(args: argparse.Namespace) -> None:
    """Write a list of genotypes for ``train``."""
    rows = Table(args.table).rows()
    named = [Named(f"{r['name']}-{r['seed']}", found_in(r, args.without_zero)) for r in rows]
    write_list(args.out, named)


def compare(args: argparse.Namespace) -> None:
    """Print the comparison of the strategies; write and draw it."""
    tables = {}
    for name in ("searches", "found", "without_zero", "baselines"):
        path = getattr(args, name)
        if path is not None and not path.exists():
            raise ValueError(f"--{name.replace('_', '-')} {path}: there is no such table")
        tables[name] = Table(path).rows() if path else []
    if args.search_seeds:
        seeds = {*map(str, args.search_seeds)}
        for name in ("found", "without_zero"):
            tables[name] = [r for r in tables[name] if r["name"].rpartition("-")[2] in seeds]
    if args.training_hours is not None and not 0 < args.training_hours < math.inf:
        raise ValueError(f"--training-hours is {args.training_hours}, it must be above 0")
    benchmark = Benchmark(args.random, frozenset(args.leave_out))
    comparison = Comparison(
        benchmark, tables.pop("searches"), args.training_hours, args.search_only
    )
    lines = comparison.lines(**tables)
    print(markdown(lines))
    common, own = comparison.deviations(tables["found"])
    print("\ndeviation of a search seed's mean loss, and degrees of freedom:")
    for name, error in {"all others" if own else "all": common, **own}.items():
        print(f"{name}: {error}, {error.freedom}")
    if args.out:
        save_lines(lines, args.out)
    if args.plot:
        from picture import draw  # matplotlib is slow to load

        draw(benchmark.column(comparison.end), lines, args.plot)


def supernet(args: argparse.Namespace) -> None:
    """Print Kendall's tau of the losses with inherited weights and of those of training alone."""
    benchmark = Benchmark(args.table)
    ranked = rank(args.checkpoint, args.data / "data-bin", benchmark)
    if args.out:
        write(args.out, ranked)
    left_out = len(benchmark.random) - len(ranked)
    if left_out:
        print(
            f"left out: {left_out} genotypes with operations that the search did not have or pruned"
        )
    if len(ranked) < 3:
        raise ValueError(f"{args.checkpoint}: its search has left {len(ranked)} genotypes to rank")
    _, inherited, alone = map(np.array, zip(*ranked, strict=True))
    tau, (low, high) = tau_interval(inherited, alone)
    print(f"Kendall's tau over {len(ranked)} genotypes: {tau:.2f} [{low:.2f}, {high:.2f}]")


def place(args: argparse.Namespace) -> None:
    """Print a place, with 95 % intervals."""
    benchmark = Benchmark(args.table, frozenset(args.leave_out))
    found = benchmark.place(args.loss, args.parameters, args.seeds)
    if not benchmark.deviation().freedom:
        print("intervals leave out training seeds: no model of the table has two")
    print("percentile {:.1f} [{:.1f}, {:.1f}]".format(found.percentile, *found.interval))
    if found.adjusted is not None:
        text = "percentile at equal parameters {:.1f} [{:.1f}, {:.1f}]"
        print(text.format(found.adjusted, *found.adjusted_interval))
    text = "random search: {:.1f} trainings [{:.1f}, {:.1f}], {:.1f} CPU hours"
    print(text.format(found.trainings, *found.trainings_interval, found.cpu_hours))


def report(args: argparse.Namespace) -> None:
    """Print the distribution of the random genotypes' losses, and how losses rank again."""
    benchmark = Benchmark(args.table, frozenset(args.leave_out))
    losses = benchmark.column(benchmark.losses[-1])
    text = "{} random genotypes: loss {:.3f} to {:.3f}, mean {:.3f}, deviation {:.3f}"
    print(text.format(len(losses), losses.min(), losses.max(), losses.mean(), losses.std(ddof=1)))
    print(f"deviation of a loss across training seeds: {benchmark.deviation()}")
    print(f"CPU hours of a training: {benchmark.cpu_hours():.2f}")
    for name, tau in benchmark.tau_of_lengths().items():
        print(f"Kendall's tau of {name} with the loss at the end: {tau:.2f}")
    for seeds, tau in benchmark.tau_of_seeds().items():
        print(f"Kendall's tau between seeds {' and '.join(seeds)}: {tau:.2f}")


COMMANDS = {
    "train": train,
    "baselines": train,
    "search": search,
    "found": found,
    "compare": compare,
    "supernet": supernet,
    "warm-start": warm_start,
    "place": place,
    "report": report,
}


def main() -> None:
    """Run a command."""
    args = get_parser().parse_args()
    try:
        if args.command == "sample":
            write_list(args.out, sample(args.count, args.seed))
        else:
            COMMANDS[args.command](args)
    except (RunError, InputError, ValueError, OSError) as error:
        sys.exit(f"benchmark.py: error: {error}")
    except KeyboardInterrupt:
        sys.exit("benchmark.py: interrupted; the same command continues")


if __name__ == "__main__":
    for library in ("fairseq", "matplotlib"):  # fairseq turns on their notes
        logging.getLogger(library).setLevel(logging.WARNING)
    main()
