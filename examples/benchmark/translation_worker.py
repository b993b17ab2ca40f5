"""Translates with an exported model or CTranslate2, once; translation.py starts it.

usage: python examples/benchmark/translation_worker.py exported|ctranslate2 MODEL TEXT
         BEAM LENGTH BATCH THREADS [COMPUTE_TYPE]

Prints a line of JSON: the seconds of the translation, without those of loading, and the tokens of
each translation.
"""

from __future__ import annotations

import json
import runpy
import sys
import time
from argparse import Namespace
from pathlib import Path


def exported(model: str, lines: list[str], limits: Namespace) -> tuple[float, list[int]]:
    sys.path.insert(0, model)  # as when Python runs the program
    program = runpy.run_path(f"{model}/translate.py")
    translator = program["Translator"](Path(model), limits.threads)
    start = time.perf_counter()
    found = translator.outputs(lines, limits)
    return time.perf_counter() - start, [len(best[0][1]) for best in found]


def ctranslate2(model: str, lines: list[str], limits: Namespace) -> tuple[float, list[int]]:
    from ctranslate2 import Translator

    threads = {"inter_threads": 1, "intra_threads": limits.threads}
    translator = Translator(model, compute_type=limits.compute_type, **threads)
    start = time.perf_counter()
    found = translator.translate_batch(
        [line.split() for line in lines],
        beam_size=limits.beam,
        max_batch_size=limits.batch_size,
        max_decoding_length=limits.max_len_b,
        min_decoding_length=limits.max_len_b,
    )
    return time.perf_counter() - start, [len(result.hypotheses[0]) for result in found]


def main() -> None:
    system, model, text, *numbers = sys.argv[1:]
    beam, length, batch, threads = map(int, numbers[:4])
    limits = Namespace(beam=beam, lenpen=1.0, max_len_a=0.0, max_len_b=length)
    limits = Namespace(**vars(limits), batch_size=batch, threads=threads)
    limits.compute_type = (numbers[4:] or ["default"])[0]
    lines = Path(text).read_text(encoding="utf-8").splitlines()
    translate = {"exported": exported, "ctranslate2": ctranslate2}[system]
    seconds, lengths = translate(model, lines, limits)
    print(json.dumps({"seconds": seconds, "lengths": lengths}))


if __name__ == "__main__":
    main()
