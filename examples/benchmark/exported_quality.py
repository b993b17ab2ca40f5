"""Compares the translations of an exported model with those of fairseq-generate, and their BLEU.

usage: python examples/benchmark/exported_quality.py CHECKPOINT PREPARED [--sentences N] ...

PREPARED is the folder that examples/prepare.sh wrote. The test set's raw text goes in, and plain
text comes out. Prints whether the n-best lists of fairseq-generate and of the float32 export are
the same, with the largest difference of scores, and the BLEU (sacrebleu) of all translations.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterable, Sequence
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory

import sacrebleu
from measuring import PLUGIN, print_table, python

NBest = dict[int, list[tuple[float, str]]]


def nbest(lines: Iterable[Sequence[str]]) -> NBest:
    """Hypotheses of each sentence, the best first, from (sentence, score, text)."""
    found: NBest = {}
    for number, score, text in lines:
        found.setdefault(int(number), []).append((float(score), text))
    return found


def first_lines(path: Path, count: int) -> list[str]:
    with path.open(encoding="utf-8", newline="\n") as file:
        return list(islice(file, count))


def generated(args: argparse.Namespace, codes: Path, folder: Path) -> NBest:
    """The n-best lists of fairseq-generate on the first sentences of the test set."""
    languages = ["--source-lang", args.source_lang, "--target-lang", args.target_lang]
    for language in (args.source_lang, args.target_lang):
        lines = first_lines(args.prepared / "bpe" / f"test.{language}", args.sentences)
        (folder / f"test.{language}").write_text("".join(lines), encoding="utf-8")
    words = args.prepared / "data-bin" / f"dict.{args.source_lang}.txt"
    given = ["--testpref", folder / "test", "--srcdict", words, "--joined-dictionary"]
    data = folder / "bin"
    python("-m", "fairseq_cli.preprocess", *languages, *given, "--destdir", data)
    processing = ["--bpe", "sentencepiece", "--sentencepiece-model", codes]
    if codes.name == "codes":
        processing = ["--tokenizer", "normalized_moses", "--bpe", "subword_nmt"]
        processing += ["--bpe-codes", codes]
    options = [*languages, "--user-dir", PLUGIN, "--path", args.checkpoint, "--cpu", *processing]
    options += ["--required-batch-size-multiple", "1", "--batch-size", "32", *args.limits]
    log = python("-m", "fairseq_cli.generate", data, *options).stdout
    return nbest(re.findall(r"^D-(\d+)\t(\S+)\t(.*)$", log, re.MULTILINE))


def exported(args: argparse.Namespace, codes: Path, folder: Path, *options: str) -> NBest:
    """The n-best lists of an export, which is written to ``folder``."""
    text = "".join(first_lines(args.prepared / "text" / f"test.{args.source_lang}", args.sentences))
    given = ["--codes", codes, *["--moses"][: codes.name == "codes"], *options]
    given += ["--data", args.prepared / "data-bin"]
    python("-m", "fairseq_dartsformer.cli.export", args.checkpoint, "-o", folder, *given)
    log = python(folder / "translate.py", *args.limits, text=text).stdout
    return nbest(line.split("\t") for line in log.split("\n")[:-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("prepared", type=Path)
    parser.add_argument("--source-lang", required=True)
    parser.add_argument("--target-lang", required=True)
    parser.add_argument("--sentences", type=int, default=1000)
    parser.add_argument("--beam", type=int, default=5)
    parser.add_argument("--lenpen", type=float, default=1.0)
    args = parser.parse_args()
    # A limit that depends on neither the source nor the batch.
    args.limits = f"--beam {args.beam} --nbest {args.beam} --lenpen {args.lenpen}".split()
    args.limits += "--max-len-a 0 --max-len-b 200".split()
    pieces = args.prepared / "codes" / "sentencepiece.bpe.model"
    codes = pieces if pieces.exists() else args.prepared / "codes" / "codes"
    with TemporaryDirectory() as name:
        folder = Path(name)
        found = {
            "fairseq-generate": generated(args, codes, folder),
            "exported, float32": exported(args, codes, folder / "float32"),
            "exported, int8": exported(args, codes, folder / "int8", "--int8"),
        }
    expected, single = found["fairseq-generate"], found["exported, float32"]
    same, scores = 0, [0.0]
    for number, hypotheses in expected.items():
        if [text for _, text in hypotheses] == [text for _, text in single[number]]:
            same += 1
            pairs = zip(hypotheses, single[number], strict=True)
            scores += [abs(one - other) for (one, _), (other, _) in pairs]
    print(f"{same} of {len(expected)} n-best lists are the same, in the same order;")
    print(f"their scores differ by at most {max(scores):.1e} bits\n")
    lines = first_lines(args.prepared / "text" / f"test.{args.target_lang}", args.sentences)
    references = [line.rstrip("\n") for line in lines]
    rows = []
    for name, lists in found.items():
        best = [lists[i][0][1] for i in range(len(references))]
        rows.append([name, sacrebleu.corpus_bleu(best, [references]).score])
    print_table(["", "BLEU"], rows)


if __name__ == "__main__":
    main()
