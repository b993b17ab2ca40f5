"""``dartsformer-latency``: measure the time of translations on this machine, and predict it.

With ``--arch``, takes fairseq-train's options of a supernet, measures its architectures and writes
a table. Without it, predicts the latency of genotypes from a table.
"""

from argparse import Namespace
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from ..errors import InputError, flag
from ..latency.measurement import Bench, Times, Translation
from ..memory.planner import training_config
from ..search_space.genotype import BUILTIN, Genotype
from ..search_space.latency_table import LatencyTable
from .command import (
    CommandParser,
    add_vocabulary,
    check_output,
    positive_integer,
    replacing,
    run_command,
)


def get_parser() -> CommandParser:
    parser = CommandParser(
        prog="dartsformer-latency",
        description=__doc__,
        epilog="All other options are fairseq-train's for a search: --arch and the architecture's, "
        "--fp16, --bf16, --cpu, --seed.",
        allow_abbrev=False,
    )
    add = parser.add_argument
    known = ", ".join(BUILTIN)
    text = f"what to predict and, with --arch, measure (a file, or a built-in name: {known})"
    add("--genotype", nargs="+", metavar="FILE", help=text)
    add("--arch", "-a", help="the supernet whose architectures are measured")
    add("-o", "--output", metavar="FILE", help="with --arch: where to write the table")
    add("--latency-table", metavar="FILE", help="the table to predict from")
    defaults = Translation()
    for name, text in {
        "sentences": "of the batch",
        "beam": "rows a sentence in the decoder; 1 for greedy search",
        "length": "tokens of a sentence, on both sides",
    }.items():
        default, note = getattr(defaults, name), " (default: %(default)s)"
        add(f"--{name}", type=positive_integer, default=default, metavar="N", help=text + note)
    add_vocabulary(parser)
    rounds = "times that every architecture is measured, of which the least counts (default: 10)"
    add("--rounds", type=positive_integer, default=10, metavar="N", help=rounds)
    threads = "of a CPU (default: torch's)"
    add("--threads", type=positive_integer, metavar="N", help=threads)
    check = "with --arch: also measure N random genotypes, and compare with the table's predictions"
    add("--check", type=positive_integer, metavar="N", help=check)
    return parser


def measure(args: Namespace, rest: list[str]) -> None:
    """Measure, compare and write; a wrong option or table raises an :class:`InputError` before
    anything is measured."""
    if (args.output is None) == (args.latency_table is None):
        raise InputError("-o or --latency-table: give one of them with --arch")
    if args.latency_table is not None and args.check is None and args.genotype is None:
        raise InputError("--check or --genotype: give one with --arch and --latency-table")
    if args.output is not None:
        check_output(Path(args.output), [])
    given = None if args.latency_table is None else LatencyTable.load(args.latency_table)
    named = {path: Genotype.load(path) for path in args.genotype or ()}
    if args.threads is not None:
        torch.set_num_threads(args.threads)
    translation = Translation(**{f.name: getattr(args, f.name) for f in fields(Translation)})
    bench = Bench(training_config(args.arch, rest), args.vocabulary, translation)
    if given is not None:
        bench.compare(given)
    choices = [] if given is not None else bench.balanced()
    genotypes = bench.random(args.check) if args.check else {}
    for path, genotype in named.items():
        genotypes[genotype] = choice = bench.snapshot.find(genotype)
        if choice is None:
            raise InputError(f"--genotype {path}: is no architecture of this supernet")
    print(f"{len(choices) + len(genotypes)} architectures on {bench.describe()}", flush=True)
    everything = [*choices, *genotypes.values()]
    # Without a terminal there is no bar.
    *_, times = tqdm(bench.measure(everything, args.rounds), "rounds", args.rounds, disable=None)
    table = given or bench.table(choices, times[: len(choices)])
    if min(table.fixed.values()) < 0:
        raise InputError(
            f"--rounds is {args.rounds}: the times vary so much that a stack without its "
            "operations would take less than no time; take more rounds, on an idle machine"
        )
    measured = dict(zip(genotypes, times[len(choices) :], strict=True))
    if genotypes:
        print(comparison(table, measured))
    for path, genotype in named.items():
        print(f"{path}: {sum(measured[genotype].values()):.3f} ms measured")
    if given is None:
        with replacing(Path(args.output)) as temporary:
            temporary.write_text(table.to_json() + "\n", encoding="utf-8")
        print(f"wrote {args.output}")


def comparison(table: LatencyTable, times: Mapping[Genotype, Times]) -> str:
    """Format measured and predicted milliseconds of genotypes, and the errors of prediction."""
    measured = np.array([sum(t.values()) for t in times.values()])
    predicted = np.array([table.predict(genotype) for genotype in times])
    errors = np.abs(predicted / measured - 1)
    lines = ["| measured (ms) | predicted (ms) | error (%) |", "|---|---|---|"]
    for i in measured.argsort():
        percent = 100 * (predicted[i] / measured[i] - 1)
        lines.append(f"| {measured[i]:.3f} | {predicted[i]:.3f} | {percent:+.1f} |")
    lines.append(f"mean relative error {errors.mean():.1%}, largest {errors.max():.1%}")
    return "\n".join(lines)


def main(args: Namespace, rest: list[str]) -> None:
    """Measure or predict; a wrong option or file raises an :class:`InputError`."""
    if args.arch is not None:
        return measure(args, rest)
    for name in ("output", "check"):
        if getattr(args, name) is not None:
            raise InputError(f"--{name} is {getattr(args, name)}: it needs --arch")
    if rest:
        raise InputError(f"{rest[0]}: is no option of a prediction; to measure, give --arch")
    for name in ("genotype", "latency_table"):
        if getattr(args, name) is None:
            raise InputError(
                f"{flag(name)} is missing: a prediction needs it; to measure, give --arch"
            )
    table = LatencyTable.load(args.latency_table)
    latencies = {given: table.predict(Genotype.load(given)) for given in args.genotype}
    for given, milliseconds in latencies.items():
        print(f"{given}: {milliseconds:.3f} ms")


def cli_main() -> None:
    run_command(get_parser(), main, others=True)


if __name__ == "__main__":
    cli_main()
