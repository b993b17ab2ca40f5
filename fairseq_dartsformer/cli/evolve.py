"""``dartsformer-evolve``: search architectures with the weights of a supernet.

Scores genotypes on the validation set and breeds the next generation from the best (Guo et al.
2020). After a kill, the same command continues from its history and ends with the same result.
"""

import hashlib
import math
import os
import sys
from argparse import Namespace
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import torch
from fairseq.data.encoders import TOKENIZER_REGISTRY
from tqdm import tqdm

from ..errors import InputError, flag
from ..evolution.history import History
from ..evolution.population import Architecture, Cost, Evolution, Space
from ..evolution.scoring import ScoreConfig, Scorer
from ..evolution.workers import Scores, scoring
from ..search_space.genotype import Genotype
from ..search_space.latency_table import LatencyTable, network_of
from .command import (
    CommandParser,
    check_output,
    number,
    positive_integer,
    replacing,
    run_command,
    whole_number,
)

SCORES_A_LINE = 25  # in a log


def _probability(text: str) -> float:
    return number(text, float, lambda value: 0 < value <= 1, "above 0 and at most 1")


def _milliseconds(text: str) -> float:
    return number(text, float, lambda value: 0 < value < math.inf, "a positive number")


def _size(text: str) -> int:
    def size(text: str) -> float:
        unit = {"K": 1e3, "M": 1e6, "G": 1e9}.get(text[-1:].upper())
        return int(text) if unit is None else float(text[:-1]) * unit

    expected = "a number from 1, as 65000000 or 65M"
    return round(number(text, size, lambda value: 1 <= value < math.inf, expected))


# Defaults are those of the configurations.
SCORE_OPTIONS = {
    "score": {"choices": ["loss", "bleu"], "help": "what to optimise"},
    "valid-subset": {"metavar": "NAME", "help": "split to score on"},
    "max-tokens": {"type": positive_integer, "help": "of a batch, with padding"},
    "beam": {"type": positive_integer, "help": "for bleu"},
    "lenpen": {"type": float, "help": "for bleu"},
    "remove-bpe": {"nargs": "?", "const": "@@ ", "metavar": "MARK", "help": "for bleu: join words"},
    "detok": {"choices": list(TOKENIZER_REGISTRY), "help": "for bleu"},
}
EVOLUTION_OPTIONS = {
    "population": {"type": positive_integer, "help": "genotypes of a generation"},
    "parents": {"type": positive_integer, "help": "the best so far, which have children"},
    "mutations": {"type": whole_number(0), "help": "children of one parent"},
    "crossovers": {"type": whole_number(0), "help": "children of two; the rest are random"},
    "mutation-probability": {"type": _probability, "help": "of each node to be drawn anew"},
    "seed": {"type": int, "help": "of all random draws"},
}


def get_parser() -> CommandParser:
    parser = CommandParser(prog="dartsformer-evolve", description=__doc__)
    add = parser.add_argument
    add("checkpoint", metavar="CHECKPOINT", help="of a search, by sampling or by darts")
    add("data", metavar="DATA", help="binarised, as for the search")
    add("-o", "--output", required=True, metavar="FILE", help="where to write the best genotype")
    add("--history", metavar="FILE", help="all scored genotypes (default: -o's name with .jsonl)")
    add("--fp16", action="store_true", help="compute in half precision")
    add("--cpu", action="store_true", help="use no GPU")
    workers = "scoring processes (default: one a GPU, or one a core)"
    add("--workers", type=positive_integer, metavar="N", help=workers)
    generations = "how many (default: 30)"
    add("--generations", type=positive_integer, default=30, metavar="N", help=generations)
    limit = "of the derived model, with embeddings, e.g. 65000000 or 65M"
    add("--max-parameters", type=_size, metavar="N", help=limit)
    limit = "milliseconds that the derived model may take by --latency-table"
    add("--max-latency", type=_milliseconds, metavar="MS", help=limit)
    add("--latency-table", metavar="FILE", help="written by dartsformer-latency")
    for options, defaults in (
        (SCORE_OPTIONS, ScoreConfig("", "")),
        (EVOLUTION_OPTIONS, Evolution()),
    ):
        for name, settings in options.items():
            default = getattr(defaults, name.replace("-", "_"))
            note = "" if default is None else " (default: %(default)s)"
            metavar = {} if {"choices", "metavar"} & settings.keys() else {"metavar": "N"}
            text = settings["help"] + note
            add(f"--{name}", **metavar | settings | {"default": default, "help": text})
    return parser


def devices_of(args: Namespace) -> list[str]:
    """The device of each worker; too few GPUs, or none for half precision, raise an
    :class:`InputError`."""
    gpus = 0 if args.cpu else torch.cuda.device_count()
    if gpus == 0:
        if args.fp16:
            raise InputError("--fp16: there is no GPU to compute on")
        return ["cpu"] * (args.workers or len(os.sched_getaffinity(0)))
    if args.workers is not None and args.workers > gpus:
        raise InputError(f"--workers is {args.workers}, but there are {gpus} GPUs: one each")
    return [f"cuda:{i}" for i in range(args.workers or gpus)]


def _picked(kind: type, args: Namespace) -> Any:
    return kind(**{field.name: getattr(args, field.name) for field in fields(kind)})


def main(args: Namespace) -> None:
    """Search, then write the best genotype; wrong arguments, checkpoints or data raise an
    :class:`InputError`."""
    output = Path(args.output)
    path = Path(args.history or output.with_suffix(".jsonl"))
    check_output(output, [args.checkpoint])
    check_output(path, [args.checkpoint], "--history")
    if path.resolve() == output.resolve():
        raise InputError(f"--history {path}: is also -o's file")
    if (args.max_latency is None) != (args.latency_table is None):
        raise InputError("--max-latency and --latency-table: give both or neither")
    table = None if args.latency_table is None else LatencyTable.load(args.latency_table)
    devices = devices_of(args)
    cfg, evolution = _picked(ScoreConfig, args), _picked(Evolution, args)
    torch.set_num_threads(1)  # workers share the cores; scores do not depend on their number
    scorer = Scorer(cfg, devices[0] if len(devices) == 1 else "cpu")
    costs = [] if table is None else [latency_of(scorer, table, args.max_latency)]
    space = Space(*scorer.parameters(), args.max_parameters, scorer.allowed(), costs)
    settings = _settings(cfg, evolution, args.max_parameters)
    if table is not None:
        digest = hashlib.sha256(table.to_json().encode()).hexdigest()
        settings |= {"max_latency": args.max_latency, "latency_table": digest}
    history = History(path, cfg.score, settings)
    ranking: list[Architecture] = []
    with scoring(scorer, devices) as scores:
        search = Search(scorer, space, history, scores)
        for ranking in evolution.run(space, search.cost, args.generations):
            print(search.report(ranking), flush=True)
    if not ranking:
        given = {flag(n): getattr(args, n) for n in ("max_parameters", "max_latency")}
        limits = " and ".join(f"{name} is {x}" for name, x in given.items() if x is not None)
        raise InputError(f"{limits}: found no genotype that keeps the limits, raise one of them")
    best = search.genotype(ranking[0])
    with replacing(output) as temporary:
        temporary.write_text(best.to_json() + "\n", encoding="utf-8")
    print(f"{best.to_json()}\nwrote {output}")


def _settings(cfg: ScoreConfig, evolution: Evolution, limit: int | None) -> dict[str, Any]:
    """Everything a history depends on; the number of generations may grow."""
    digest = hashlib.sha256(Path(cfg.checkpoint).read_bytes()).hexdigest()
    data = str(Path(cfg.data).resolve())
    replaced = {"checkpoint": digest, "data": data, "max_parameters": limit}
    return asdict(cfg) | replaced | asdict(evolution)


def latency_of(scorer: Scorer, table: LatencyTable, limit: float) -> Cost:
    """Return the latencies of the supernet's architectures in milliseconds; raise an
    :class:`InputError` if the table is of another network or lacks a candidate."""
    snapshot, options = scorer.snapshot, scorer.options
    table.check(network_of(options, snapshot.family.name), len(scorer.task.target_dictionary))
    costs = [
        table.costs(n.stack, snapshot.candidates[n.stack], len(snapshot.alpha[n.stack]))
        for n in scorer.nodes
    ]
    return Cost("--max-latency", "ms", costs, sum(table.fixed.values()), limit)


class Search:
    """Scores generations, records their history and reports them.

    Args:
        scorer: holds the supernet.
        space: the allowed architectures.
        history: scores of an earlier run, to which new ones are added.
        scores: scores architectures, from :func:`scoring`.
    """

    def __init__(self, scorer: Scorer, space: Space, history: History, scores: Scores):
        self.scorer, self.space, self.history, self.scores = scorer, space, history, scores
        self.generation = 0
        self.sign = -1 if history.score == "bleu" else 1

    def genotype(self, architecture: Architecture) -> Genotype:
        return self.scorer.snapshot.genotype(self.scorer.choice(architecture))

    def cost(self, architectures: list[Architecture]) -> list[float]:
        """Score a generation, except for genotypes in the history."""
        self.generation += 1
        new = [a for a in architectures if self.genotype(a) not in self.history.scores]
        title = f"generation {self.generation}"
        # Without a terminal, a line now and then replaces the bar.
        bar = tqdm(self.scores(new), title, len(new), leave=False, disable=None)
        for count, (architecture, score) in enumerate(zip(new, bar, strict=True), 1):
            parameters = self.space.count(architecture)
            self.history.add(self.genotype(architecture), score, parameters, self.generation)
            if bar.disable and count % SCORES_A_LINE == 0:
                print(f"{title}: {count} of {len(new)} scored", file=sys.stderr, flush=True)
        return [self.sign * self.history.scores[self.genotype(a)] for a in architectures]

    def report(self, ranking: list[Architecture]) -> str:
        """A line about the best genotype so far."""
        best = ranking[0]
        costs = [f"{round(cost.of(best), 3):,} {cost.unit}" for cost in self.space.costs]
        return (
            f"generation {self.generation}: {len(ranking)} genotypes, best {self.history.score} "
            f"{self.history.scores[self.genotype(best)]:.4f} with {', '.join(costs)}"
        )


def cli_main() -> None:
    run_command(get_parser(), main)


if __name__ == "__main__":
    cli_main()
