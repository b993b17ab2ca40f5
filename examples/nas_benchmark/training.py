"""Trains models alone by the benchmark's protocol, with fairseq-train and fairseq-generate.

Several workers can share the folder of runs. Whatever is killed, the same command goes on from the
last checkpoint.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import sacrebleu
from jobs import Job, RunError
from sacremoses import MosesDetokenizer
from sampling import Named, to_cells
from settings import WARMUP
from table import columns, lengths

UPDATES = 4000

# The chunked criterion is fairseq's label_smoothed_cross_entropy, a third faster here. Epochs
# neither validate nor save: the interval in updates does.
SHARED = "--encoder-layers 2 --decoder-layers 2 --share-all-embeddings --dropout 0.1"
MODEL = f"--embed-dim 64 --hidden-dim 120 --ffn-dim 480 --attention-heads 4 {SHARED}"
OPTIMIZATION = f"""
--criterion chunked_label_smoothed_cross_entropy --label-smoothing 0.1
--optimizer adam --adam-betas (0.9,0.98)
--lr 3e-3 --lr-scheduler inverse_sqrt --warmup-updates {WARMUP}
--validate-interval 1000000 --save-interval 1000000 --no-epoch-checkpoints
--keep-interval-updates 1 --num-workers 0 --log-format json --log-interval 100
"""
TOKENS = "--max-tokens 2000"
GENERATION = """
--gen-subset test --beam 5 --max-len-a 1 --max-len-b 50 --max-tokens 8000
--required-batch-size-multiple 1 --remove-bpe
"""
VALIDATION = re.compile(r"\| valid \| (\{.*\})$", re.MULTILINE)
PARAMETERS = re.compile(r"num\. shared model params: ([\d,]+)")
HYPOTHESIS = re.compile(r"^H-(\d+)\t[^\t]*\t(.*)$", re.MULTILINE)


@dataclass(frozen=True)
class Run(Job):
    """One training with its test.

    Attributes:
        named: the genotype.
        updates: length of the training, a multiple of 8.
        search: a checkpoint of a search, with whose weights the training begins, if any.
        optimization: options of the training, besides the model's.
        scores: what the test measures.
    """

    optimization: ClassVar[str] = f"{OPTIMIZATION} {TOKENS}"
    scores: ClassVar[tuple[str, ...]] = ("bleu", "chrf")

    named: Named
    seed: int
    data: Path
    out: Path
    updates: int = UPDATES
    search: Path | None = None

    @property
    def name(self) -> str:
        """The genotype's."""
        return self.named.name

    def complete(self, lock: int) -> dict[str, str]:
        """Train, and test."""
        self.claim([self.prepare_model(), self.train_command()])
        if not self.trained():
            self.train_to_the_end(self.train_command(), self.updates, lock)
        row = {"name": self.name, **self.cells(), "seed": str(self.seed)}
        row |= read_log((self.folder / "train.log").read_text(errors="replace"), self.updates)
        row |= self.test(lock)
        cost = self.folder / "cpu_seconds"
        row["cpu_seconds"] = cost.read_text() if cost.exists() else ""
        return {column: row[column] for column in columns(self.updates, self.scores)}

    def prepare_model(self) -> str:
        """Write what the model's options name, and return its text."""
        text = self.named.genotype.to_json()
        (self.folder / "genotype.json").write_text(text)
        return text

    def model_options(self) -> tuple[list[str], list[str]]:
        """The architecture with its sizes, and the genotype."""
        sizes = ["--arch", "dartsformer", "--task", "translation", *MODEL.split()]
        return sizes, ["--genotype", str(self.folder / "genotype.json")]

    def cells(self) -> dict[str, str]:
        """The genotype, for the table."""
        return to_cells(self.named.genotype)

    def clean(self) -> None:
        """Remove all checkpoints but that of the last update."""
        for path in self.folder.glob("checkpoint*.pt"):
            if path != self.trained():
                path.unlink()

    def train_command(self) -> list[str]:
        """Arguments of ``python``: the module, then fairseq-train's."""
        interval = str(lengths(self.updates)[0])
        sizes, genotype = self.model_options()
        words = ["-m", "fairseq_cli.train", *self.data_options(), *sizes]
        words += self.optimization.split()
        words += ["--seed", str(self.seed), "--max-update", str(self.updates)]
        words += ["--validate-interval-updates", interval, "--save-interval-updates", interval]
        words += ["--init-from-search", str(self.search)] if self.search else []
        return [*words, *genotype, "--save-dir", str(self.folder)]

    def trained(self) -> Path | None:
        """The checkpoint of the last update; fairseq would train one more update from it.

        Where an epoch ends with that update, fairseq writes no checkpoint with its number.
        """
        last = self.folder / "checkpoint_last.pt"
        ended = (self.folder / "cpu_seconds").exists() and last.exists()
        numbered = next(self.folder.glob(f"checkpoint_*_{self.updates}.pt"), None)
        return numbered or (last if ended else None)

    def test(self, lock: int) -> dict[str, str]:
        """BLEU and chrF of the test set, detokenised."""
        log = self.folder / "generate.log"
        log.unlink(missing_ok=True)
        words = ["-m", "fairseq_cli.generate", *self.data_options(), *GENERATION.split()]
        self.execute([*words, "--path", str(self.trained())], log, lock)
        target = self.languages()[1]
        found = sorted((int(n), h) for n, h in HYPOTHESIS.findall(log.read_text(encoding="utf-8")))
        detokenize = MosesDetokenizer(lang=target).detokenize
        hypotheses = [detokenize(text.split()) for _, text in found]
        with (self.data / "text" / f"test.{target}").open(encoding="utf-8", newline="\n") as file:
            references = [line.rstrip("\n") for line in file]
        if len(hypotheses) != len(references):
            raise RunError(f"{log}: {len(hypotheses)} translations of {len(references)} sentences")
        (self.folder / "hypotheses").write_text("\n".join(hypotheses) + "\n", encoding="utf-8")
        scores = {"bleu": sacrebleu.corpus_bleu, "chrf": sacrebleu.corpus_chrf}
        return {name: f"{f(hypotheses, [references]).score:.2f}" for name, f in scores.items()}


def validations(text: str, measure: str = "loss") -> dict[int, float]:
    """A measure of the validations in fairseq-train's log, by updates."""
    found = map(json.loads, VALIDATION.findall(text))
    return {int(v["valid_num_updates"]): float(v[f"valid_{measure}"]) for v in found}


def read_log(text: str, updates: int) -> dict[str, str]:
    """Parameters and validation losses (bits) from fairseq-train's log.

    Raises:
        RunError: something is missing.
    """
    valid = {measure: validations(text, measure) for measure in ("loss", "nll_loss")}
    parameters = PARAMETERS.search(text)
    if not parameters or not valid["loss"].keys() >= set(lengths(updates)):
        raise RunError("the training's log lacks the parameters or a validation")
    row = {"parameters": parameters[1].replace(",", "")}
    for measure, values in valid.items():
        for length in lengths(updates):
            row[f"{measure}_{length}"] = f"{values[length]:.3f}"
    return row
