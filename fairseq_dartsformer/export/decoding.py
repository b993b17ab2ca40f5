"""The search of the programs in an exported folder.

It is that of fairseq-generate, but each line, and not each batch, limits the length of its output:
max-len-a times the line's tokens, the end symbol among them, plus max-len-b.
"""

import argparse
import math
import sys
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import numpy as np
from loading import EOS, PAD, Folder

BUFFER = 1024  # lines that are sorted by length
LIKELY = "likely.scores", "likely.tokens"  # outputs
# By name: the default, the least value, and help.
OPTIONS = {
    "beam": (5, 1, "hypotheses of a line in beam search"),
    "lenpen": (1.0, -math.inf, "divide a score by the output's length to the power N"),
    "max-len-a": (1.0, 0.0, "the longest output: N times the line's tokens,"),
    "max-len-b": (50, 1, "plus N tokens"),
    "batch-size": (32, 1, "lines at a time"),
    "threads": (0, 0, "of onnxruntime; 0: one for each core"),
    "nbest": (
        0,
        0,
        "print number from 0, score in bits and output of the N best; 0: only the best",
    ),
}


def top(values: np.ndarray, count: int) -> np.ndarray:
    """The places of the largest values in the last dimension, the largest first."""
    places = np.argpartition(-values, count - 1, axis=-1)[..., :count]
    order = np.argsort(-np.take_along_axis(values, places, -1), -1)
    return np.take_along_axis(places, order, -1)


def pick(cache: np.ndarray, rows: np.ndarray, axis: int) -> np.ndarray:
    """The hypotheses `B × W` of a cache, by their numbers among all."""
    before, after = cache.shape[:axis], cache.shape[axis + 2 :]
    return np.take(cache.reshape(*before, -1, *after), rows, axis)


class Model(Folder):
    """A folder whose model searches outputs."""

    def takes(self, source: list[int]) -> bool:
        """Whether a line has an output other than an empty one."""
        return True

    def batch(
        self, numbers: list[int], sources: list[list[int]], args: argparse.Namespace
    ) -> list[list[tuple]]:
        """Hypotheses of some lines, of these numbers; a subclass searches them."""
        raise NotImplementedError

    def outputs(
        self, lines: list[str], args: argparse.Namespace, first: int = 0
    ) -> list[list[tuple]]:
        """Hypotheses of each line, in batches of lines of similar length.

        first: the number of the first line.
        """
        sources = [self.encode(line) for line in lines]
        found = [[(0.0, [])] for _ in lines]  # for lines that are left out, and if scores are NaN
        order = sorted(range(len(lines)), key=lambda i: len(sources[i]))
        for i, source in enumerate(sources, first + 1):
            if len(source) > self.longest[0]:
                about = f"{len(source) - 1} tokens, at most {self.longest[0] - 1} are possible"
                print(f"line {i}: {about}: its output is empty", file=sys.stderr)
        order = [i for i in order if self.takes(sources[i]) and len(sources[i]) <= self.longest[0]]
        for start in range(0, len(order), args.batch_size):
            batch = order[start : start + args.batch_size]
            numbers = [first + i for i in batch]
            hypotheses = self.batch(numbers, [sources[i] for i in batch], args)
            for i, ranked in zip(batch, hypotheses):
                found[i] = ranked or found[i]
        return found

    def step(
        self,
        words: np.ndarray,
        forced: np.ndarray,
        fixed: dict[str, np.ndarray],
        moving: dict[str, np.ndarray],
        likely: int,
        temperature: float,
    ) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
        """Scores of the next tokens of hypotheses, these tokens, both `B × W × N`, and new caches.

        words: `B × W × steps`, the hypotheses.
        forced: `B`, the next token of a line, or PAD if it is free.
        likely: N; 0: all tokens. The others as in `search`.
        """
        step, (lines,) = words.shape[2] - 1, np.nonzero(forced != PAD)
        names = ["scores"] * (not likely or len(lines) > 0) + [*LIKELY] * (likely > 0)
        names += [f"next.{name}" for name in moving]
        inputs = {"tokens": words[:, :, -1], "step": np.array([step]), **fixed, **moving}
        inputs["likely"] = np.zeros(max(1, likely), int)  # its length counts
        outputs = dict(zip(names, self.decoder.run(names, inputs)))
        found = {n: x.reshape(*words.shape[:2], -1) for n, x in outputs.items() if x.ndim == 2}
        if not likely:
            scores = found["scores"]
            if temperature != 1:
                scores = scores / temperature
                scores -= np.logaddexp.reduce(scores, axis=2, keepdims=True)
            tokens = np.broadcast_to(np.arange(scores.shape[2]), scores.shape)
            allowed = (forced == PAD)[:, None, None] | (tokens == forced[:, None, None])
            scores = np.where(allowed, scores, -np.inf)
        else:
            scores, tokens = (found[name] for name in LIKELY)
            if len(lines):  # their tokens may be unlikely
                only = found["scores"][lines, :, forced[lines]]
                scores[lines], tokens[lines, :, 0] = -np.inf, forced[lines, None]
                scores[lines, :, 0] = only
        # No output is empty.
        excluded = (tokens == PAD) | ((tokens == EOS) & (step == 0)) | np.isnan(scores)
        scores = np.where(excluded, -np.inf, scores)
        return scores, tokens, {name: outputs[f"next.{name}"] for name in moving}

    def search(
        self,
        given: np.ndarray,
        lengths: np.ndarray,
        args: argparse.Namespace,
        fixed: dict[str, np.ndarray] = {},  # noqa: B006
        choose: Callable[..., tuple] | None = None,
        temperature: float = 1.0,
    ) -> list[list[tuple]]:
        """Find the best hypotheses of each of B lines: (score in bits, tokens), the best first.

        given: `B × G`, the tokens with which a line's hypotheses begin, PAD after them.
        lengths: `B`, tokens of the lines, with the end symbol.
        fixed: inputs of the decoder that depend on the line alone.
        choose: which hypotheses may continue, and how; by default as beam search, see `best`.
        """
        beam, found = min(args.beam, len(self.symbols) - 1), [[] for _ in lengths]
        limits = args.max_len_a * lengths + args.max_len_b
        limits = limits.clip(max=self.longest[-1] - 1).astype(int)
        sizes = {"batch": len(lengths), "width": 1, "past": 0}
        shapes = {n: shape for n, shape in self.shapes.items() if n not in fixed}
        moving = {n: np.zeros([sizes.get(k, k) for k in s], "f4") for n, s in shapes.items()}
        active = np.arange(len(lengths))  # lines that are not finished
        sums, words = np.zeros((len(active), 1), "f4"), np.full((len(active), 1, 1), self.start)
        # Of beam search, twice as many tokens as a line has hypotheses; two may be excluded.
        every = bool(choose) or temperature != 1
        likely = 0 if every else min(2 * beam + 2, len(self.symbols))
        for step in range(limits.max() + 1):
            at_limit = step >= limits[active]
            forced = given[active, step] if step < given.shape[1] else np.full(len(active), PAD)
            forced = np.where(at_limit, EOS, forced)
            scores, tokens, moving = self.step(words, forced, fixed, moving, likely, temperature)
            sums, origins, places = (choose or best)(scores, sums, beam, step, active)
            chosen = tokens[np.arange(len(active))[:, None], origins, places]
            ended = (chosen == EOS) & (sums > -np.inf)
            for row, rank in zip(*np.nonzero(ended[:, :beam])):
                if len(found[active[row]]) < beam:
                    score = sums[row, rank] / (step + 1) ** args.lenpen / math.log(2)
                    hypothesis = words[row, origins[row, rank], 1:].tolist()
                    found[active[row]].append((float(score), hypothesis))
            sums = np.where(ended, -np.inf, sums)
            go_on = np.array([len(found[i]) < beam for i in active]) & ~at_limit
            go_on &= sums.max(1) > -np.inf
            if not go_on.any():
                break
            # Of what has not ended, the best hypotheses continue; while all tokens are given, one.
            width = beam if (forced[go_on] == PAD).any() else 1
            order = np.argsort(ended, axis=1, kind="stable")[go_on, :width]
            sums, origins, chosen = (
                np.take_along_axis(x[go_on], order, 1) for x in (sums, origins, chosen)
            )
            if not go_on.all():  # the hypotheses of a line share these
                fixed = {n: np.compress(go_on, x, self.axes.get(n, 0)) for n, x in fixed.items()}
            rows = np.nonzero(go_on)[0][:, None] * words.shape[1] + origins
            moving = {n: pick(cache, rows, self.axes[n]) for n, cache in moving.items()}
            words = np.take_along_axis(words[go_on], origins[:, :, None], 1)
            words, active = np.concatenate([words, chosen[:, :, None]], 2), active[go_on]
        return [sorted(hypotheses, key=lambda pair: -pair[0]) for hypotheses in found]


def best(scores: np.ndarray, sums: np.ndarray, beam: int, *unused: object) -> tuple:
    """Choose twice as many hypotheses as the beam has, as half of them may end.

    From scores `B × W × V` and their sums `B × W` to sums, origins in W and places in V, which are
    `B × 2·beam`.
    """
    flat = (scores + sums[:, :, None]).reshape(len(scores), -1)
    places = top(flat, min(2 * beam, flat.shape[1] - 1))
    return np.take_along_axis(flat, places, 1), *np.divmod(places, scores.shape[2])


def run(kind: type[Model], about: str, options: dict[str, tuple]) -> None:
    """Process standard input, line by line, with the model in the program's folder."""
    parser = argparse.ArgumentParser(description=about)
    for name, (default, _, text) in options.items():
        given = {"type": type(default), "default": default, "metavar": "N"}
        parser.add_argument(f"--{name}", help=f"{text} (default: {default})", **given)
    args = parser.parse_args()
    for name, (_, least, _) in options.items():
        value = getattr(args, name.replace("-", "_"))
        if not value >= least:
            parser.error(f"--{name} is {value}, it must be at least {least}")
    try:
        model, count = kind(Path(__file__).resolve().parent, args.threads), 0
        sys.stdin.reconfigure(encoding="utf-8", errors="replace", newline="\n")
        sys.stdout.reconfigure(encoding="utf-8")
        np.seterr(all="ignore")
        while lines := list(islice(sys.stdin, BUFFER)):
            for hypotheses in model.outputs(lines, args, count):
                for score, tokens in hypotheses[: args.nbest or 1]:
                    start = f"{count}\t{score:.6f}\t" if args.nbest else ""
                    print(start + model.text(tokens))
                count += 1
    except Exception as error:  # one line, whatever is wrong
        sys.exit(" ".join(f"{parser.prog}: error: {error}".split())[:1000])
