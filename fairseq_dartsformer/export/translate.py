"""Translates lines of text with the model in this folder.

Needs onnxruntime, numpy and, if config.json says so, sacremoses, subword-nmt or sentencepiece.
"""

import argparse
from pathlib import Path

import numpy as np
from decoding import OPTIONS, Model, run
from loading import PAD, SOURCE


class Translator(Model):
    """An encoder, whose output the decoder reads."""

    def __init__(self, path: Path, threads: int):
        super().__init__(path, threads, "mask")
        self.encoder = self.session("encoder.onnx", threads, {"tokens": SOURCE})
        self.outputs_of_encoder = ["mask", *(n for n, s in self.shapes.items() if "source" in s)]

    def takes(self, source: list[int]) -> bool:
        """Whether the line has words."""
        return len(source) > 1

    def batch(
        self, numbers: list[int], sources: list[list[int]], args: argparse.Namespace
    ) -> list[list[tuple]]:
        """Translations of some lines."""
        lengths = np.array([len(source) for source in sources])
        tokens = np.array([source + [PAD] * (max(lengths) - len(source)) for source in sources])
        fixed = dict(zip(self.outputs_of_encoder, self.encoder.run(None, {"tokens": tokens})))
        return self.search(np.empty((len(sources), 0), int), lengths, args, fixed)


if __name__ == "__main__":
    run(Translator, "Translates standard input, line by line.", OPTIONS)
