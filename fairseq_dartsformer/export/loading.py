"""The files of an exported folder, and the processing of text, for the programs in it."""

import json
import re
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from io import StringIO
from pathlib import Path

import onnxruntime

BOS, PAD, EOS, UNK = range(4)
SPECIAL = ["<s>", "<pad>", "</s>", "<unk>"]
SOURCE = ["batch", "source"]  # the shape of input tokens, and of their mask
HYPOTHESES = ["batch", "width"]  # that of the decoder's tokens
INVISIBLE = re.compile("[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\ufeff]")


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Name the file in every error while it is read; libraries' errors have no common base."""
    try:
        yield
    except Exception as error:
        raise ValueError(f"{path}: {type(error).__name__}: {error}") from None


def dictionary(content: bytes) -> list[str]:
    """The symbols, in fairseq's order."""
    lines = content.decode("utf-8").split("\n")[:-1]
    return SPECIAL + [s.removesuffix(" #fairseq:overwrite").rpartition(" ")[0] for s in lines]


class Folder:
    """A folder's configuration, decoder, dictionaries and text processing.

    A list in the configuration has an entry for the input and one for the output, or one for both.
    """

    def __init__(self, path: Path, threads: int, *inputs: str):
        """Read the folder; its decoder has these inputs, too, shaped as those of an encoder."""
        with reading(path / "config.json"):
            config = json.loads((path / "config.json").read_text(encoding="utf-8"))
            if config["format"] != 3:
                raise ValueError(f"format is {config['format']}, expected 3")
            self.path, self.checksums = path, dict(config.pop("crc32"))
            if zlib.crc32(json.dumps(config).encode()) != self.checksums["config.json"]:
                raise ValueError("is not the file that was exported")
            self.longest = [int(positions) for positions in config["max_positions"]]
            self.start = int(config["start"])
            self.shapes = {cache["name"]: cache["shape"] for cache in config["caches"]}
            self.axes = {name: shape.index("batch") for name, shape in self.shapes.items()}
            bpe, moses = config["bpe"], config["moses"]
            normalises, lowers = (bool(moses and moses[n]) for n in ("normalise", "lower_case"))
            languages = [re.split("[-_]", str(name))[0] for name in config["languages"]]
            source, target = languages[0], languages[-1]
            first, *_, last = [*config["dictionaries"]] * 2
        shapes = {"tokens": HYPOTHESES, "step": [1], "likely": ["likely"], **self.shapes}
        self.decoder = self.session("decoder.onnx", threads, shapes | dict.fromkeys(inputs, SOURCE))
        words, self.symbols = dictionary(self.content(first)), dictionary(self.content(last))
        self.numbers = {symbol: i for i, symbol in reversed(list(enumerate(words)))}
        self.before, self.after = [lambda line: " ".join(INVISIBLE.sub("", line).split())], []
        if moses:
            rules = import_module("sacremoses")
            normalise = [rules.MosesPunctNormalizer(source).normalize] * normalises
            lower = [str.lower] * lowers
            self.before += [*normalise, rules.MosesTokenizer(source).tokenize, " ".join, *lower]
            self.after = [str.split, rules.MosesDetokenizer(target).detokenize]
        codes = self.content("codes") if bpe else b""
        if bpe == "subword_nmt":
            merges = import_module("subword_nmt.apply_bpe").BPE(StringIO(codes.decode("utf-8")))
            self.before.append(merges.process_line)
            self.after.insert(0, lambda line: f"{line} ".replace("@@ ", "").rstrip())
        elif bpe:
            pieces = import_module("sentencepiece").SentencePieceProcessor(model_proto=codes)
            self.before = [str.strip, pieces.encode_as_pieces, " ".join]
            self.after = [lambda line: line.replace(" ", "").replace("\u2581", " ").strip()]

    def content(self, name: str) -> bytes:
        """A file of the folder, if it is the one that was exported."""
        path = self.path / Path(name).name
        with reading(path):
            found = path.read_bytes()
            if zlib.crc32(found) != self.checksums[name]:
                raise ValueError("is not the file that was exported")
        return found

    def session(
        self, name: str, threads: int, expected: dict[str, list]
    ) -> onnxruntime.InferenceSession:
        """A graph that has inputs of these shapes."""
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.log_severity_level = threads, 4
        content = self.content(name)
        with reading(self.path / name):  # as bytes: a graph cannot name other files
            graph = onnxruntime.InferenceSession(content, options)
            if {given.name: given.shape for given in graph.get_inputs()} != expected:
                raise ValueError("its inputs are not those of config.json")
        return graph

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
