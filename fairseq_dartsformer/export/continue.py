"""Continues lines of text with the language model in this folder.

Needs onnxruntime, numpy and, if config.json says so, sacremoses, subword-nmt or sentencepiece. The
output begins with the line, whose tokens count in the score and in the limit of the output's
length. Beam search continues the line; with topk, each token is drawn from the most likely ones
instead, and a line has nbest such outputs.
"""

import argparse
from collections.abc import Callable
from itertools import zip_longest

import numpy as np
from decoding import OPTIONS, Model, run, top
from loading import PAD

LIMITS = {"max-len-a": 0.0, "max-len-b": 200}
OPTIONS |= {
    **{name: (default, *OPTIONS[name][1:]) for name, default in LIMITS.items()},
    "topk": (0, 0, "draw each token from the N most likely ones; 0: beam search"),
    "temperature": (1.0, 1e-3, "divide the scores of the next token by N"),
    "seed": (1, 0, "of the draws of topk"),
}


class LanguageModel(Model):
    """A decoder, which reads the line as the beginning of its output."""

    def batch(
        self, numbers: list[int], sources: list[list[int]], args: argparse.Namespace
    ) -> list[list[tuple]]:
        """Continuations of some lines."""
        lengths, choose = np.array([len(source) for source in sources]), None
        if args.topk:
            args = argparse.Namespace(**{**vars(args), "beam": args.nbest or 1})
            choose = drawing(args.topk, args.seed, numbers)
        columns = zip_longest(*(source[:-1] for source in sources), fillvalue=PAD)
        given = np.array([*columns], int).reshape(-1, len(sources)).T
        return self.search(given, lengths, args, {}, choose, args.temperature)


def drawing(count: int, seed: int, numbers: list[int]) -> Callable[..., tuple]:
    """Return a function as `best` that draws each hypothesis' token from the ``count`` most likely.

    What is drawn depends on the seed, the line's number and the step, and not on the batch.
    """

    def choose(
        scores: np.ndarray, sums: np.ndarray, beam: int, step: int, active: np.ndarray
    ) -> tuple:
        width, words = scores.shape[1:]
        shape = (len(active), beam)
        scores = np.broadcast_to(scores, (*shape, words))
        places = top(scores, min(count, words))
        likely = np.take_along_axis(scores, places, 2)
        mass = np.exp(likely - likely[:, :, :1], dtype="f8").cumsum(2)
        draws = [np.random.default_rng([seed, numbers[i], step]).random(beam) for i in active]
        drawn = (mass <= np.array(draws)[:, :, None] * mass[:, :, -1:]).sum(2, keepdims=True)
        drawn = drawn.clip(max=places.shape[2] - 1)
        chosen, gained = (np.take_along_axis(x, drawn, 2)[:, :, 0] for x in (places, likely))
        # At first there is one hypothesis, with which all begin.
        return sums + gained, np.broadcast_to(np.arange(beam) % width, shape), chosen

    return choose


if __name__ == "__main__":
    run(LanguageModel, "Continues standard input, line by line.", OPTIONS)
