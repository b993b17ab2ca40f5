"""Translates lines of text with the model in this folder.

Needs onnxruntime, numpy and, if config.json says so, sacremoses, subword-nmt or sentencepiece. The
search is that of fairseq-generate, with a limit of the output's length for each sentence instead
of a batch: max-len-a times its tokens, the end symbol among them, plus max-len-b.
"""

import argparse
import json
import math
import re
import sys
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from itertools import islice
from pathlib import Path

import numpy as np
import onnxruntime

BOS, PAD, EOS, UNK = range(4)
BUFFER = 1024  # lines that are sorted by length
SPECIAL = ["<s>", "<pad>", "</s>", "<unk>"]
# threads 0: one for each core. nbest N: print LINE, SCORE and TRANSLATION of the N best.
OPTIONS = {"beam": 5, "lenpen": 1.0, "max-len-a": 1.0, "max-len-b": 50, "batch-size": 32}
OPTIONS |= {"threads": 0, "nbest": 0}
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


class Folder:
    """Configuration, graphs, dictionaries and text processing."""

    def __init__(self, path: Path, threads: int):
        with reading(path / "config.json"):
            config = json.loads((path / "config.json").read_text(encoding="utf-8"))
            if config["format"] != 1:
                raise ValueError(f"format is {config['format']}, expected 1")
            languages = config["source_lang"], config["target_lang"]
            self.longest = int(config["max_source_positions"]), int(config["max_target_positions"])
            self.shapes = {cache["name"]: cache["shape"] for cache in config["caches"]}
            self.axes = {name: shape.index("batch") for name, shape in self.shapes.items()}
            bpe, moses, symbols = config["bpe"], config["moses"], [*config["symbols"]]
        self.encoder = session(path / "encoder.onnx", threads, ["tokens"])
        expected = ["tokens", "step", "mask", *self.shapes]
        self.decoder = session(path / "decoder.onnx", threads, expected)
        paths = [path / f"dict.{language}.txt" for language in languages]
        source, self.symbols = map(dictionary, paths, symbols)
        self.numbers = {symbol: i for i, symbol in reversed(list(enumerate(source)))}
        self.before, self.after = [lambda line: " ".join(INVISIBLE.sub("", line).split())], []
        if moses:
            rules = import_module("sacremoses")
            source, target = (re.split("[-_]", name)[0] for name in languages)
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
        line = " ".join(self.symbols[token] for token in tokens)
        for step in self.after:
            line = step(line)
        return line


def search(folder: Folder, sources: list[list[int]], args: argparse.Namespace) -> list[list[tuple]]:
    """For each source the best translations: (score in bits, tokens), the best first."""
    beam, found = min(args.beam, len(folder.symbols) - 1), [[] for _ in sources]
    lengths = np.array([len(source) for source in sources])
    tokens = np.array([source + [PAD] * (max(lengths) - len(source)) for source in sources])
    limits = (args.max_len_a * lengths + args.max_len_b).astype(int).clip(max=folder.longest[1] - 1)
    mask, *caches = folder.encoder.run(None, {"tokens": tokens})
    fixed = dict(zip((n for n, shape in folder.shapes.items() if "source" in shape), caches))
    sizes = {"batch": len(sources), "past": 0}
    shapes = {n: shape for n, shape in folder.shapes.items() if n not in fixed}
    moving = {n: np.zeros([sizes.get(k, k) for k in s], "f4") for n, s in shapes.items()}
    active = np.arange(len(sources))  # the sentences that are not finished
    rows = np.repeat(active, beam)  # of caches: sentences times hypotheses
    words = np.full((len(sources), beam, 1), EOS)
    sums = np.full((len(sources), beam), -np.inf, "f4")
    sums[:, 0] = 0  # all hypotheses begin alike
    for step in range(limits.max() + 1):
        if len(rows) != len(mask):  # the hypotheses of a sentence share these
            mask = mask[rows]
            fixed = {n: np.take(cache, rows, folder.axes[n]) for n, cache in fixed.items()}
        moving = {n: np.take(cache, rows, folder.axes[n]) for n, cache in moving.items()}
        inputs = {"tokens": words[:, :, -1].reshape(-1), "step": np.array([step]), "mask": mask}
        scores, *caches = folder.decoder.run(None, {**inputs, **fixed, **moving})
        moving = dict(zip(moving, caches))
        scores[np.isnan(scores)] = -np.inf
        scores[:, [PAD] if step else [PAD, EOS]] = -np.inf  # no translation is empty
        scores = scores.reshape(len(active), beam, -1)
        at_limit = step >= limits[active]
        scores[at_limit, :, :EOS] = scores[at_limit, :, EOS + 1 :] = -np.inf
        flat = (scores + sums[:, :, None]).reshape(len(active), -1)
        count = min(2 * beam, flat.shape[1] - 1)
        best = np.argpartition(-flat, count - 1, axis=1)[:, :count]
        best = np.take_along_axis(best, np.argsort(-np.take_along_axis(flat, best, 1), 1), 1)
        sums = np.take_along_axis(flat, best, 1)
        origins, chosen = np.divmod(best, scores.shape[2])
        ended = (chosen == EOS) & (sums > -np.inf)
        for row, rank in zip(*np.nonzero(ended[:, :beam])):
            hypotheses = found[active[row]]
            if len(hypotheses) < beam:
                score = sums[row, rank] / (step + 1) ** args.lenpen / math.log(2)
                hypotheses.append((float(score), words[row, origins[row, rank], 1:].tolist()))
        go_on = np.array([len(found[i]) < beam for i in active]) & ~at_limit
        if not go_on.any():
            break
        # Of what has not ended, the best hypotheses continue.
        order = np.argsort(ended, axis=1, kind="stable")[go_on, :beam]
        sums = np.take_along_axis(np.where(ended, -np.inf, sums)[go_on], order, 1)
        origins, chosen = (np.take_along_axis(x[go_on], order, 1) for x in (origins, chosen))
        rows = (np.nonzero(go_on)[0][:, None] * beam + origins).reshape(-1)
        words = np.take_along_axis(words[go_on], origins[:, :, None], 1)
        words, active = np.concatenate([words, chosen[:, :, None]], 2), active[go_on]
    return [sorted(hypotheses, key=lambda pair: -pair[0]) for hypotheses in found]


def translate(folder: Folder, lines: list[str], args: argparse.Namespace) -> list[list[tuple]]:
    """Translations of each line, in batches of sentences of similar length."""
    sources = [folder.encode(line) for line in lines]
    found = [[(0.0, [])] for _ in lines]  # for empty lines, and if scores are not finite
    order = sorted((i for i, s in enumerate(sources) if s[1:]), key=lambda i: len(sources[i]))
    if order and len(sources[order[-1]]) > folder.longest[0]:
        raise ValueError(f"over {folder.longest[0] - 1} tokens in a line: {lines[order[-1]][:60]}")
    for start in range(0, len(order), args.batch_size):
        batch = order[start : start + args.batch_size]
        for i, best in zip(batch, search(folder, [sources[i] for i in batch], args)):
            found[i] = best or found[i]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description="Translates standard input, line by line.")
    for name, default in OPTIONS.items():
        parser.add_argument(f"--{name}", type=type(default), default=default, help=f"({default})")
    args = parser.parse_args()
    if min(args.beam, args.max_len_b, args.batch_size, args.threads + 1, args.nbest + 1) < 1:
        parser.error("--beam, --max-len-b and --batch-size must be at least 1")
    try:
        folder, count = Folder(Path(__file__).resolve().parent, args.threads), 0
        sys.stdin.reconfigure(encoding="utf-8", newline="\n")
        sys.stdout.reconfigure(encoding="utf-8")
        while lines := list(islice(sys.stdin, BUFFER)):
            for hypotheses in translate(folder, lines, args):
                for score, tokens in hypotheses[: args.nbest or 1]:
                    start = f"{count}\t{score:.6f}\t" if args.nbest else ""
                    print(start + folder.text(tokens))
                count += 1
    except Exception as error:  # one line, whatever is wrong
        sys.exit(" ".join(f"translate.py: error: {error}".split())[:1000])


if __name__ == "__main__":
    main()
