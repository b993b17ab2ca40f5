"""Compares the derivative by a candidate's weight with what the candidate is worth.

usage: python examples/nas_benchmark/derivatives.py CHECKPOINT --data data [--batches 60] [--seed 1]

Strategies that run one candidate in each node with weight 1 (`dsnas`, `gdas`) move alpha by the
loss's derivative by that weight: a first-order estimate of what changes if the candidate leaves the
node. This script draws an architecture uniformly for each batch and, for each of its nodes,
measures the derivative, and the loss minus the loss with `zero` in the node.
"""

from __future__ import annotations

import argparse
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from random import Random

import numpy as np
import torch

from fairseq_dartsformer.errors import InputError
from fairseq_dartsformer.evolution.scoring import ScoreConfig, Scorer
from fairseq_dartsformer.reversible.coupling import Mixtures, Partial
from fairseq_dartsformer.search_space.sampling import (
    Choice,
    chosen,
    draw,
    searched_node,
    searched_stacks,
)

ZERO = "zero"


class Measurement:
    """Derivatives and effects of candidates in a supernet whose dropout is off."""

    def __init__(self, scorer: Scorer, seed: int):
        self.model, self.criterion = scorer.model, scorer.criterion
        self.random = Random(seed)
        stacks = searched_stacks(self.model).items()
        self.names = {stack: searched_node(coder).names for stack, coder in stacks}
        if not any(ZERO in names for names in self.names.values()):
            raise ValueError(f"{scorer.cfg.checkpoint}: no stack has {ZERO} among its candidates")

    def loss(self, batch: dict, mixtures: Mapping[str, Mixtures]) -> torch.Tensor:
        """The criterion's loss per token, in nats."""
        with chosen(self.model, mixtures):
            loss, tokens, _ = self.criterion(self.model, batch)
        return loss / tokens

    def weighted(self, choice: Choice) -> dict[str, Partial]:
        """The same architecture, its candidates with differentiable weights of value 1."""
        found = {}
        for stack, coder in searched_stacks(self.model).items():
            indices = torch.tensor(choice[stack]).unsqueeze(-1)
            weights = torch.zeros_like(coder.alpha).scatter(-1, indices, 1).requires_grad_()
            found[stack] = Partial(weights, [[(o,) for o in row] for row in choice[stack]])
        return found

    def of_batch(self, batch: dict) -> Iterator[tuple[str, float, float]]:
        """Yield name, derivative and effect of each candidate of one architecture but `zero`, in
        the stacks that have `zero`."""
        choice = draw(self.model, self.random)
        mixtures = self.weighted(choice)
        loss = self.loss(batch, mixtures)
        weights = [mixture.weights for mixture in mixtures.values()]
        gradients = torch.autograd.grad(loss, weights)
        for (stack, rows), gradient in zip(choice.items(), gradients, strict=True):
            names = self.names[stack]
            if ZERO not in names:
                continue
            for i, row in enumerate(rows):
                for k, o in enumerate(row):
                    if names[o] == ZERO:
                        continue
                    without = {s: [list(row) for row in found] for s, found in choice.items()}
                    without[stack][i][k] = names.index(ZERO)
                    with torch.no_grad():
                        effect = loss - self.loss(batch, without)
                    yield names[o], gradient[i, k, o].item(), effect.item()

    def table(self, batches: Iterable[dict]) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
        """Yield derivatives and effects of each operation, then of all but `identity`."""
        found = defaultdict(list)
        for batch in batches:
            for name, *numbers in self.of_batch(batch):
                found[name].append(numbers)
        for name in sorted(found):
            yield (name, *np.array(found[name]).T)
        found.pop("identity", None)
        yield ("all but identity", *np.concatenate(list(found.values())).T)


def mean(numbers: np.ndarray) -> str:
    """Mean, and its standard error."""
    return f"{numbers.mean():+.4f} ± {numbers.std(ddof=1) / len(numbers) ** 0.5:.4f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("checkpoint", help="of a search whose candidates include zero")
    parser.add_argument("--data", type=Path, required=True, help="the folder of prepare.py")
    parser.add_argument("--batches", type=int, default=60, help="(default: 60)")
    parser.add_argument("--seed", type=int, default=1, help="of the architectures (default: 1)")
    args = parser.parse_args()
    data = str(args.data / "data-bin")
    try:
        scorer = Scorer(ScoreConfig(args.checkpoint, data, max_tokens=2000))
        measurement = Measurement(scorer, args.seed)
    except (InputError, ValueError, OSError) as error:
        sys.exit(f"derivatives.py: error: {error}")
    splits = {"train": scorer.training_batches(args.seed), "valid": scorer.batches}
    print("| text | operation | nodes | derivative | positive | effect | positive | correlation |")
    print("|---|---|---|---|---|---|---|---|")
    for split, batches in splits.items():
        for name, slope, effect in measurement.table(islice(batches, args.batches)):
            shares = [f"{(numbers > 0).mean():.0%}" for numbers in (slope, effect)]
            cells = [mean(slope), shares[0], mean(effect), shares[1]]
            correlation = np.corrcoef(slope, effect)[0, 1]
            print("|", split, "|", name, "|", len(slope), "|", " | ".join(cells), end=" | ")
            print(f"{correlation:.2f} |", flush=True)


if __name__ == "__main__":
    main()
