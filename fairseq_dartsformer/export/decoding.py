"""What the programs of exported folders share: their files, text processing, and the search.

The search is that of fairseq-generate, but each line, and not each batch, limits the length of its
output: max-len-a times the line's tokens, the end symbol among them, plus max-len-b.
"""

import argparse
import json
import math
import re
import sys
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from itertools import islice
from pathlib import Path

import numpy as np
import onnxruntime

BOS, PAD, EOS, UNK = range(4)
BUFFER = 1024  # lines that are sorted by length
SPECIAL = ["<s>", "<pad>", "</s>", "<unk>"]
# By name: the default, the least value, and help.
OPTIONS = {
    "beam": (5, 1, "hypotheses of a line in beam search"),
    "lenpen": (1.0, -math.inf, "divide a score by the output's length to the power N"),
    "max-len-a": (1.0, 0.0, "the longest output: N times the line's tokens,"),
    "max-len-b": (50, 1, "plus N tokens"),
    "batch-size": (32, 1, "lines at a time"),
    "threads": (0, 0, "of onnxruntime; 0: one for each core"),
    "nbest": (0, 0, "print number, score in bits and output of the N best; 0: only the best"),
}
INVISIBLE = re.compile("[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\ufeff]")


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Name the file in every error while it is read; libraries' errors have no common base."""
    try:
        yield
    except Exception as error:
        raise ValueError(f"{path}: {type(error).__name__}: {error}") from None


def session(path: Path, threads: int, expected: list[str]) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = threads, 4
    with reading(path):  # as bytes: a graph cannot name other files
        graph = onnxruntime.InferenceSession(path.read_bytes(), options)
        if [given.name for given in graph.get_inputs()] != expected:
            raise ValueError(f"its inputs are not {', '.join(expected)}")
    return graph


def dictionary(path: Path, size: int) -> list[str]:
    with reading(path):
        lines = path.read_text(encoding="utf-8").split("\n")[:-1]
        if len(lines) + len(SPECIAL) != size:
            raise ValueError(f"{len(lines)} lines, expected {size - len(SPECIAL)}")
        return SPECIAL + [s.removesuffix(" #fairseq:overwrite").rpartition(" ")[0] for s in lines]


def top(values: np.ndarray, count: int) -> np.ndarray:
    """The places of the largest values in the last dimension, the largest first."""
    places = np.argpartition(-values, count - 1, axis=-1)[..., :count]
    order = np.argsort(-np.take_along_axis(values, places, -1), -1)
    return np.take_along_axis(places, order, -1)


class Model:
    """A folder's configuration, decoder, dictionaries and text processing.

    A list in the configuration has an entry for the input and one for the output, or one for both.
    """

    def __init__(self, path: Path, threads: int, *inputs: str):
        """Read the folder; its decoder has these inputs after the tokens, step and caches."""
        with reading(path / "config.json"):
            config = json.loads((path / "config.json").read_text(encoding="utf-8"))
            if config["format"] != 2:
                raise ValueError(f"format is {config['format']}, expected 2")
            self.longest = [int(positions) for positions in config["max_positions"]]
            self.start = int(config["start"])
            self.shapes = {cache["name"]: cache["shape"] for cache in config["caches"]}
            self.axes = {name: shape.index("batch") for name, shape in self.shapes.items()}
            bpe, moses = config["bpe"], config["moses"]
            languages = [re.split("[-_]", str(name))[0] for name in config["languages"]]
            names = [Path(name).name for name in config["dictionaries"]]  # of this folder
            files = [(path / name, size) for name, size in zip(names, config["symbols"])]
            first, last, source, target = files[0], files[-1], languages[0], languages[-1]
        self.decoder = session(
            path / "decoder.onnx", threads, ["tokens", "step", *self.shapes, *inputs]
        )
        words, self.symbols = dictionary(*first), dictionary(*last)
        self.numbers = {symbol: i for i, symbol in reversed(list(enumerate(words)))}
        self.before, self.after = [lambda line: " ".join(INVISIBLE.sub("", line).split())], []
        if moses:
            rules = import_module("sacremoses")
            normalise = rules.MosesPunctNormalizer(source).normalize
            self.before += [normalise, rules.MosesTokenizer(source).tokenize, " ".join]
            self.after = [str.split, rules.MosesDetokenizer(target).detokenize]
        with reading(path / "codes"):
            if bpe and zlib.crc32((path / "codes").read_bytes()) != config["codes_crc32"]:
                raise ValueError("is not the file that was exported")
        if bpe == "subword_nmt":
            codes = (path / "codes").open(encoding="utf-8")
            self.before.append(import_module("subword_nmt.apply_bpe").BPE(codes).process_line)
            self.after.insert(0, lambda line: f"{line} ".replace("@@ ", "").rstrip())
        elif bpe:
            pieces = import_module("sentencepiece").SentencePieceProcessor(str(path / "codes"))
            self.before = [str.strip, pieces.encode_as_pieces, " ".join]
            self.after = [lambda line: line.replace(" ", "").replace("\u2581", " ").strip()]

    def encode(self, line: str) -> list[int]:
        """The numbers of a line's tokens, with the end symbol."""
        for step in self.before:
            line = step(line)
        return [self.numbers.get(word, UNK) for word in line.split()] + [EOS]

    def text(self, tokens: list[int]) -> str:
        line = " ".join(self.symbols[token] for token in tokens if token not in (BOS, EOS))
        for step in self.after:
            line = step(line)
        return line

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
        if len(sources[order[-1]]) > self.longest[0]:
            start = lines[order[-1]][:60]
            raise ValueError(f"over {self.longest[0] - 1} tokens in a line: {start}")
        order = [i for i in order if self.takes(sources[i])]
        for start in range(0, len(order), args.batch_size):
            batch = order[start : start + args.batch_size]
            numbers = [first + i for i in batch]
            hypotheses = self.batch(numbers, [sources[i] for i in batch], args)
            for i, ranked in zip(batch, hypotheses):
                found[i] = ranked or found[i]
        return found

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
        sizes = {"batch": len(lengths), "past": 0}
        shapes = {n: shape for n, shape in self.shapes.items() if n not in fixed}
        moving = {n: np.zeros([sizes.get(k, k) for k in s], "f4") for n, s in shapes.items()}
        rows = active = np.arange(len(lengths))  # rows: of caches; active: lines not finished
        sums, words = np.zeros((len(rows), 1), "f4"), np.full((len(rows), 1, 1), self.start)
        hypotheses = sums.shape  # lines times hypotheses
        for step in range(limits.max() + 1):
            if hypotheses != sums.shape:  # the hypotheses of a line share these
                fixed = {n: np.take(x, rows, self.axes.get(n, 0)) for n, x in fixed.items()}
                hypotheses = sums.shape
            moving = {n: np.take(cache, rows, self.axes[n]) for n, cache in moving.items()}
            inputs = {"tokens": words[:, :, -1].reshape(-1), "step": np.array([step])}
            scores, *caches = self.decoder.run(None, {**inputs, **fixed, **moving})
            moving = dict(zip(moving, caches))
            if temperature != 1:
                scores = scores / temperature
                scores -= np.logaddexp.reduce(scores, axis=1, keepdims=True)
            scores[np.isnan(scores)] = -np.inf
            scores[:, [PAD] if step else [PAD, EOS]] = -np.inf  # no output is empty
            scores = scores.reshape(*sums.shape, -1)
            at_limit = step >= limits[active]
            forced = given[active, step] if step < given.shape[1] else np.full(len(active), PAD)
            forced = np.where(at_limit, EOS, forced)
            (lines,) = np.nonzero(forced != PAD)
            only = scores[lines, :, forced[lines]]
            scores[lines] = -np.inf
            scores[lines, :, forced[lines]] = only
            sums, origins, chosen = (choose or best)(scores, sums, beam, step, active)
            ended = (chosen == EOS) & (sums > -np.inf)
            for row, rank in zip(*np.nonzero(ended[:, :beam])):
                if len(found[active[row]]) < beam:
                    score = sums[row, rank] / (step + 1) ** args.lenpen / math.log(2)
                    tokens = words[row, origins[row, rank], 1:].tolist()
                    found[active[row]].append((float(score), tokens))
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
            rows = (np.nonzero(go_on)[0][:, None] * words.shape[1] + origins).reshape(-1)
            words = np.take_along_axis(words[go_on], origins[:, :, None], 1)
            words, active = np.concatenate([words, chosen[:, :, None]], 2), active[go_on]
        return [sorted(hypotheses, key=lambda pair: -pair[0]) for hypotheses in found]


def best(scores: np.ndarray, sums: np.ndarray, beam: int, *unused: object) -> tuple:
    """Choose twice as many hypotheses as the beam has, as half of them may end.

    From scores `B × W × V` and their sums `B × W` to sums, origins in W and tokens `B × 2·beam`.
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
        sys.stdin.reconfigure(encoding="utf-8", newline="\n")
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
