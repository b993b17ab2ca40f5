"""``dartsformer-evolve``: search the architectures of a supernet with its weights.

Scores genotypes on the validation set, and breeds the next generation from the best (Guo et al.
2020). Killed and run again, it goes on from its history to the same end.
"""

import argparse
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

from ..errors import InputError
from ..evolution.history import History
from ..evolution.population import Architecture, Evolution, Space
from ..evolution.scoring import ScoreConfig, Scorer
from ..evolution.workers import Scores, scoring
from ..search_space.genotype import Genotype
from .command import (
    CommandParser,
    check_output,
    number,
    positive_integer,
    quiet,
    replacing,
    run_command,
)

SCORES_A_LINE = 25  # in a log


class _HelpWithDefaults(argparse.ArgumentDefaultsHelpFormatter):
    """Without ``(default: None)``."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        if action.default is None or action.default is False:
            return action.help
        return super()._get_help_string(action)


def get_parser() -> CommandParser:
    parser = CommandParser(
        prog="dartsformer-evolve",
        description=__doc__,
        formatter_class=_HelpWithDefaults,
    )
    add = parser.add_argument
    add("checkpoint", metavar="CHECKPOINT", help="of a search, by sampling or by darts")
    add("data", metavar="DATA", help="binarised, as for the search")
    add("-o", "--output", required=True, metavar="FILE", help="where the best genotype goes")
    add("--history", metavar="FILE", help="every scored genotype; by -o's name, with .jsonl")

    group = parser.add_argument_group("score").add_argument
    cfg = ScoreConfig("", "")
    group("--score", choices=["loss", "bleu"], default=cfg.score, help="what decides")
    group("--valid-subset", default=cfg.valid_subset, metavar="NAME", help="split to score on")
    group(
        "--max-tokens",
        type=positive_integer,
        default=cfg.max_tokens,
        metavar="N",
        help="of a batch, padding included",
    )
    group("--beam", type=positive_integer, default=cfg.beam, metavar="N", help="for bleu")
    group("--lenpen", type=float, default=cfg.lenpen, metavar="X", help="for bleu")
    group("--remove-bpe", nargs="?", const="@@ ", metavar="MARK", help="for bleu: join words")
    group("--detok", choices=list(TOKENIZER_REGISTRY), default=cfg.detok, help="for bleu")
    group("--fp16", action="store_true", help="compute in half precision")
    group("--cpu", action="store_true", help="leave GPUs alone")
    group(
        "--workers",
        type=positive_integer,
        metavar="N",
        help="processes that score; one a GPU, or one a core",
    )

    group = parser.add_argument_group("evolution").add_argument
    defaults = Evolution()
    for name, kind, default, what in (
        ("generations", positive_integer, 30, "how many there are"),
        ("population", positive_integer, defaults.population, "genotypes of a generation"),
        ("parents", positive_integer, defaults.parents, "the best so far, which have children"),
        ("mutations", _count, defaults.mutations, "children of one parent"),
        ("crossovers", _count, defaults.crossovers, "children of two; the others are random"),
    ):
        group(f"--{name}", type=kind, default=default, metavar="N", help=what)
    group(
        "--mutation-probability",
        type=_probability,
        default=defaults.mutation_probability,
        metavar="P",
        help="of each node, to be drawn anew",
    )
    group(
        "--max-parameters",
        type=_size,
        metavar="N",
        help="of the derived model, embeddings included, as 65000000 or 65M",
    )
    group("--seed", type=int, default=defaults.seed, metavar="N", help="of all draws")
    return parser


def _count(text: str) -> int:
    return number(text, int, lambda value: value >= 0, "a whole number from 0")


def _probability(text: str) -> float:
    return number(text, float, lambda value: 0 < value <= 1, "above 0 and at most 1")


def _size(text: str) -> int:
    units = {"K": 1e3, "M": 1e6, "G": 1e9}

    def size(text: str) -> float:
        unit = units.get(text[-1:].upper())
        return int(text) if unit is None else float(text[:-1]) * unit

    expected = "a number from 1, as 65000000 or 65M"
    return round(number(text, size, lambda value: 1 <= value < math.inf, expected))


def devices_of(args: Namespace) -> list[str]:
    """The device of each worker.

    Raises:
        InputError: there are not as many GPUs, or half precision is wanted without one.
    """
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
    """Search, and write the best genotype.

    Raises:
        InputError: an argument, the checkpoint or the data are at fault.
    """
    quiet()
    output = Path(args.output)
    path = Path(args.history or output.with_suffix(".jsonl"))
    check_output(output, [args.checkpoint])
    check_output(path, [args.checkpoint], "--history")
    if path.resolve() == output.resolve():
        raise InputError(f"--history {path}: is -o's file, too")
    devices = devices_of(args)
    cfg, evolution = _picked(ScoreConfig, args), _picked(Evolution, args)
    torch.set_num_threads(1)  # cores are for workers, and a score shall not depend on them
    scorer = Scorer(cfg, devices[0] if len(devices) == 1 else "cpu")
    space = Space(*scorer.parameters(), args.max_parameters)
    history = History(path, cfg.score, _settings(cfg, evolution, args.max_parameters))
    with scoring(scorer, devices) as scores:
        search = Search(scorer, space, history, scores)
        for ranking in evolution.run(space, search.cost, args.generations):
            print(search.report(ranking), flush=True)
    best = search.genotype(ranking[0])
    with replacing(output) as temporary:
        temporary.write_text(best.to_json() + "\n", encoding="utf-8")
    print(f"{best.to_json()}\nwrote {output}")


def _settings(cfg: ScoreConfig, evolution: Evolution, limit: int | None) -> dict[str, Any]:
    """What a history depends on; the number of generations may grow."""
    digest = hashlib.sha256(Path(cfg.checkpoint).read_bytes()).hexdigest()
    data = str(Path(cfg.data).resolve())
    return {
        **asdict(cfg),
        **{"checkpoint": digest, "data": data, "max_parameters": limit},
        **asdict(evolution),
    }


class Search:
    """Scores generations, keeps their history and reports them.

    Args:
        scorer: knows the supernet.
        space: of architectures.
        history: has the scores of a search that was stopped, and takes the new ones.
        scores: as :func:`scoring` gives it.
    """

    def __init__(self, scorer: Scorer, space: Space, history: History, scores: Scores):
        self.scorer, self.space, self.history, self.scores = scorer, space, history, scores
        self.generation = 0
        self.sign = -1 if history.score == "bleu" else 1

    def genotype(self, architecture: Architecture) -> Genotype:
        """What the architecture is written as."""
        return self.scorer.snapshot.genotype(self.scorer.choice(architecture))

    def cost(self, architectures: list[Architecture]) -> list[float]:
        """Score a generation; what the history has is not scored again."""
        self.generation += 1
        new = [a for a in architectures if self.genotype(a) not in self.history.scores]
        title = f"generation {self.generation}"
        # A bar in a log would be a thousand lines; there, one says now and then how far it is.
        bar = tqdm(self.scores(new), title, len(new), leave=False, disable=None)
        for count, (architecture, score) in enumerate(zip(new, bar, strict=True), 1):
            self.history.add(
                self.genotype(architecture),
                score,
                self.space.count(architecture),
                self.generation,
            )
            if bar.disable and count % SCORES_A_LINE == 0:
                print(f"{title}: {count} of {len(new)} scored", file=sys.stderr, flush=True)
        return [self.sign * self.history.scores[self.genotype(a)] for a in architectures]

    def report(self, ranking: list[Architecture]) -> str:
        """The best so far."""
        best = ranking[0]
        return (
            f"generation {self.generation}: {len(ranking)} genotypes, best {self.history.score} "
            f"{self.history.scores[self.genotype(best)]:.4f} with "
            f"{self.space.count(best):,} parameters"
        )


def cli_main() -> None:
    run_command(get_parser(), main)


if __name__ == "__main__":
    cli_main()
