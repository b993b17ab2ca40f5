"""Compares the speed of translation: fairseq-generate, the exported model and CTranslate2.

usage: python examples/benchmark/translation.py [--sizes base small] [--text FILE] [--rounds N] ...

CTranslate2 is no dependency; without it, its rows are left out (pip install ctranslate2). It cannot
run a DARTSformer, so it runs fairseq's transformer with as many parameters.

Weights are random and the embedding of the end symbol is zero, so that no sentence ends before its
limit: all systems decode the same number of tokens, which is checked. Every run is a process of
its own. The seconds are those of the translation, without loading the model. Of several batch
sizes, each system uses the one that was fastest for it in a first round, which does not count.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
from collections import Counter
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import chain
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import torch
from measuring import PLUGIN, machine, print_table, python

import fairseq_dartsformer.cli  # noqa: F401 - silences notes of fairseq and hydra
from fairseq_dartsformer.memory.planner import count_parameters, training_config

WORKER = Path(__file__).with_name("translation_worker.py")
LANGUAGES = "--source-lang aa --target-lang bb".split()
REFERENCE = "fairseq-generate, derived"  # to which the ratios are
# The named architectures of a size, and the transformer's width and heads.
SIZES = {
    "base": ("dartsformer", "transformer", 512, 8),
    "small": ("dartsformer_small", "transformer_small", 128, 2),
}


@dataclass(frozen=True)
class System:
    """A way to translate.

    Attributes:
        name: in the table.
        command: `generate`, or the worker's system.
        model: a checkpoint or a folder.
        compute_type: of CTranslate2.
    """

    name: str
    command: str
    model: Path
    compute_type: str = "default"

    def translate(self, data: Path, args: argparse.Namespace, batch: int) -> float:
        """Translate ``data / "test.aa"``; return the sentences per second.

        Raises:
            RuntimeError: a translation has another length than it should have.
        """
        if self.command == "generate":
            limits = f"--beam {args.beam} --max-len-a 0 --max-len-b {args.length}".split()
            limits += f"--batch-size {batch} --required-batch-size-multiple 1".split()
            options = [*LANGUAGES, "--user-dir", PLUGIN, "--path", str(self.model), "--cpu"]
            run = python("-m", "fairseq_cli.generate", data / "bin", *options, *limits)
            log = run.stdout + run.stderr
            speed = float(re.search(r"Translated .* \(([\d.]+) sentences/s", log)[1])
            texts = re.findall(r"^H-\d+\t\S+\t(.*)$", log, re.MULTILINE)
            lengths = [len(text.split()) for text in texts]
        else:
            numbers = (args.beam, args.length, batch, args.threads)
            given = (self.command, self.model, data / "test.aa", *numbers, self.compute_type)
            result = json.loads(python(WORKER, *given).stdout)
            lengths = result["lengths"]
            speed = len(lengths) / result["seconds"]
        if set(lengths) != {args.length}:
            raise RuntimeError(f"{self.name}: lengths {Counter(lengths)}, expected {args.length}")
        return speed


def write_data(folder: Path, args: argparse.Namespace) -> None:
    """The sentences, and a dictionary of their words and as many others as it takes."""
    if args.text:
        lines = Path(args.text).read_text(encoding="utf-8").splitlines()[: args.sentences]
    else:
        draw = random.Random(0)
        words = [f"w{i}" for i in range(args.vocabulary)]
        lines = [" ".join(draw.choices(words, k=args.length)) for _ in range(args.sentences)]
    text = "".join(f"{line}\n" for line in lines)
    for name in ("train", "test"):
        for language in ("aa", "bb"):
            (folder / f"{name}.{language}").write_text(text, encoding="utf-8")
    counts = Counter(text.split())
    words = [word for word, _ in counts.most_common(args.vocabulary)]
    words += [f"filler{i}" for i in range(args.vocabulary - len(words))]
    (folder / "dict").write_text("".join(f"{word} 1\n" for word in words), encoding="utf-8")
    prefixes = ["--trainpref", folder / "train", "--testpref", folder / "test"]
    others = ["--srcdict", folder / "dict", "--joined-dictionary", "--destdir", folder / "bin"]
    python("-m", "fairseq_cli.preprocess", *LANGUAGES, *prefixes, *others)


def write_checkpoint(arch: str, options: list[str], data: Path, folder: Path) -> Path:
    """A checkpoint of one update, in which every embedding of the end symbol is zero."""
    given = [*LANGUAGES, "--user-dir", PLUGIN, "--task", "translation", "--arch", arch, *options]
    given += "--optimizer adam --lr 1e-9 --batch-size 1 --max-update 1 --cpu".split()
    given += "--no-epoch-checkpoints --disable-validation --no-save-optimizer-state".split()
    python("-m", "fairseq_cli.train", data / "bin", *given, "--save-dir", folder)
    path = folder / "checkpoint_last.pt"
    state = torch.load(path, weights_only=False)  # our own file
    symbols = len((data / "bin" / "dict.aa.txt").read_text(encoding="utf-8").splitlines()) + 4
    for weight in state["model"].values():
        if weight.dim() == 2 and len(weight) == symbols:
            weight[2] = 0
    torch.save(state, path)
    return path


def equal_options(args: argparse.Namespace, size: str) -> tuple[list[str], list[str], int]:
    """Options of the derived model and of an equal transformer, and the number of parameters."""
    arch, transformer, width, heads = SIZES[size]
    layers = ["--share-all-embeddings"]
    for stack in ("encoder", "decoder"):
        layers += [f"--{stack}-layers", str(args.layers)]
    derived = [*layers, "--genotype", args.genotype]
    target = count_parameters(training_config(arch, derived), args.vocabulary + 4)

    def options(inner: int) -> list[str]:
        sizes = {"embed-dim": width, "ffn-embed-dim": inner, "attention-heads": heads}
        pairs = [[f"--{s}-{n}", str(v)] for s in ("encoder", "decoder") for n, v in sizes.items()]
        return [*layers, *chain(*pairs)]

    one, two = (
        count_parameters(training_config(transformer, options(n)), args.vocabulary + 4)
        for n in (1, 2)
    )
    inner = max(1, 1 + round((target - one) / (two - one)))
    return derived, options(inner), target


def systems(size: str, data: Path, folder: Path, args: argparse.Namespace) -> list[System]:
    """Write the models of a size, each system's in its form."""
    arch, transformer, *_ = SIZES[size]
    derived, equal, parameters = equal_options(args, size)
    print(f"{size}: {parameters / 1e6:.1f}M parameters, transformer {' '.join(equal)}", flush=True)
    checkpoint = write_checkpoint(arch, derived, data, folder / "derived")
    found = [System(REFERENCE, "generate", checkpoint)]
    for name, options in {"float32": [], "int8": ["--int8"]}.items():
        output = folder / name
        python("-m", "fairseq_dartsformer.cli.export", checkpoint, "-o", output, *options)
        found.append(System(f"exported, {name}", "exported", output))
    checkpoint = write_checkpoint(transformer, equal, data, folder / "transformer")
    found.append(System("fairseq-generate, transformer", "generate", checkpoint))
    if find_spec("ctranslate2") is None:
        print("no rows of CTranslate2, which is not installed: pip install ctranslate2", flush=True)
        return found
    output = folder / "ctranslate2"
    options = ["--model_path", checkpoint, "--data_dir", data / "bin", "--output_dir", output]
    options += ["--unsafe_deserialization", "--user_dir", PLUGIN]
    python("-m", "ctranslate2.converters.fairseq", *options)
    return found + [
        System(f"CTranslate2, transformer, {kind}", "ctranslate2", output, kind)
        for kind in ("float32", "int8")
    ]


def measure(size: str, data: Path, folder: Path, args: argparse.Namespace) -> list[list[object]]:
    """Rows of a size."""
    compared, shuffler = systems(size, data, folder, args), random.Random(0)
    batches = {system: args.batch_sizes[0] for system in compared}
    if len(args.batch_sizes) > 1:
        for system in compared:
            speeds = {batch: system.translate(data, args, batch) for batch in args.batch_sizes}
            batches[system] = max(speeds, key=speeds.__getitem__)
    speeds: dict[System, list[float]] = {system: [] for system in compared}
    for _ in range(args.rounds):
        for system in shuffler.sample(compared, len(compared)):
            speeds[system].append(system.translate(data, args, batches[system]))
    best, middle = max(speeds[compared[0]]), median(speeds[compared[0]])
    return [
        [
            *(size, system.name, batches[system], max(found), max(found) / best),
            *(median(found), median(found) / middle),
        ]
        for system, found in speeds.items()
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=list(SIZES))
    parser.add_argument("--text", help="a file of tokens (default: random ones)")
    parser.add_argument("--sentences", type=int, default=256)
    parser.add_argument("--length", type=int, default=25, help="tokens of each translation")
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[16, 64, 128])
    parser.add_argument("--beam", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--genotype", default="paper_fig4_approx")
    parser.add_argument("--layers", type=int, default=6)
    parser.add_argument("--vocabulary", type=int, default=32768)
    args = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = str(args.threads)
    torch.set_num_threads(args.threads)
    print(machine())
    print(f"{args.sentences} sentences, {args.length} tokens out, beam {args.beam}")
    rows = []
    with TemporaryDirectory() as name:
        data = Path(name)
        write_data(data, args)
        for size in args.sizes:
            (data / size).mkdir()
            rows += measure(size, data, data / size, args)
    print()
    header = ["", "", "batch", "best (sentences/s)", "ratio", "median (sentences/s)", "ratio"]
    print_table(header, rows)


if __name__ == "__main__":
    main()
