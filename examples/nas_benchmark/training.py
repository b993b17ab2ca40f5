"""Trains genotypes alone by the benchmark's protocol, with fairseq-train and fairseq-generate.

Several workers can share the folder of runs. Whatever is killed, the same command goes on from the
last checkpoint.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import sacrebleu
from sacremoses import MosesDetokenizer
from sampling import Named, to_cells
from table import Table, columns, lengths

ROOT = Path(__file__).resolve().parents[2]
UPDATES = 4000

# The chunked criterion is fairseq's label_smoothed_cross_entropy, a third faster here. Epochs
# neither validate nor save: the interval in updates does.
TRAINING = """
--arch dartsformer --embed-dim 64 --hidden-dim 120 --ffn-dim 480 --attention-heads 4
--encoder-layers 2 --decoder-layers 2 --share-all-embeddings --dropout 0.1
--task translation --criterion chunked_label_smoothed_cross_entropy --label-smoothing 0.1
--optimizer adam --adam-betas (0.9,0.98) --lr 3e-3 --lr-scheduler inverse_sqrt --warmup-updates 200
--max-tokens 2000
--validate-interval 1000000 --save-interval 1000000 --no-epoch-checkpoints
--keep-interval-updates 1 --num-workers 0 --log-format json --log-interval 100
"""
GENERATION = """
--gen-subset test --beam 5 --max-len-a 1 --max-len-b 50 --max-tokens 8000
--required-batch-size-multiple 1 --remove-bpe
"""
VALIDATION = re.compile(r"\| valid \| (\{.*\})$", re.MULTILINE)
RESUMED = re.compile(r"Loaded checkpoint .* @ (\d+) updates")
PARAMETERS = re.compile(r"num\. shared model params: ([\d,]+)")
HYPOTHESIS = re.compile(r"^H-(\d+)\t[^\t]*\t(.*)$", re.MULTILINE)


class RunError(Exception):
    """A command failed, or a folder is another run's."""


@dataclass(frozen=True)
class Run:
    """One training with its test.

    Attributes:
        named: the genotype.
        seed: of the training.
        data: the folder that prepare.py has made.
        out: the folder of all runs.
        updates: length of the training, a multiple of 8.
    """

    named: Named
    seed: int
    data: Path
    out: Path
    updates: int = UPDATES

    @property
    def folder(self) -> Path:
        """Where checkpoints and logs go."""
        return self.out / f"{self.named.name}.seed{self.seed}"

    def complete(self, lock: int) -> dict[str, str]:
        """Train as far as there is something left to train, test, and return the table's row.

        Args:
            lock: file descriptor of the run's lock, which the commands inherit.

        Raises:
            RunError: a command failed, or the folder is another run's.
        """
        self._claim()
        if not self._trained():
            self._train(lock)
        row = {"name": self.named.name, **to_cells(self.named.genotype), "seed": str(self.seed)}
        row |= read_log((self.folder / "train.log").read_text(errors="replace"), self.updates)
        row |= self._test(lock)
        cost = self.folder / "cpu_seconds"
        row["cpu_seconds"] = cost.read_text() if cost.exists() else ""
        return {column: row[column] for column in columns(self.updates)}

    def clean(self) -> None:
        """Remove all checkpoints but that of the last update."""
        for path in self.folder.glob("checkpoint*.pt"):
            if path != self._trained():
                path.unlink()

    def train_command(self) -> list[str]:
        """Arguments of ``python``: the module, then fairseq-train's."""
        interval = str(lengths(self.updates)[0])
        words = ["-m", "fairseq_cli.train", *self._data(), *TRAINING.split()]
        words += ["--seed", str(self.seed), "--max-update", str(self.updates)]
        words += ["--validate-interval-updates", interval, "--save-interval-updates", interval]
        words += ["--genotype", str(self.folder / "genotype.json"), "--save-dir", str(self.folder)]
        return words

    def _claim(self) -> None:
        """Write down what is run here, or check that it is the same."""
        record, genotype = self.folder / "run.json", self.named.genotype.to_json()
        text = json.dumps([genotype, self.train_command()])
        if not record.exists():
            (self.folder / "genotype.json").write_text(genotype)
            record.with_suffix(".tmp").write_text(text)
            record.with_suffix(".tmp").replace(record)
        elif record.read_text() != text:
            raise RunError(f"{self.folder} has a run with other options: choose another --out")

    def _trained(self) -> Path | None:
        """The checkpoint of the last update; fairseq would train one more update from it."""
        return next(self.folder.glob(f"checkpoint_*_{self.updates}.pt"), None)

    def _train(self, lock: int) -> None:
        log = self.folder / "train.log"
        begin = log.stat().st_size if log.exists() else 0
        seconds = self._execute(self.train_command(), log, lock)
        resumed = RESUMED.findall(log.read_bytes()[begin:].decode(errors="replace"))
        # What a killed attempt took is unknown: the last attempt's time is scaled to all updates.
        seconds *= self.updates / (self.updates - int(resumed[-1]) if resumed else self.updates)
        (self.folder / "cpu_seconds").write_text(f"{seconds:.0f}")

    def _test(self, lock: int) -> dict[str, str]:
        """BLEU and chrF of the test set, detokenised."""
        log = self.folder / "generate.log"
        log.unlink(missing_ok=True)
        words = ["-m", "fairseq_cli.generate", *self._data(), *GENERATION.split()]
        self._execute([*words, "--path", str(self._trained())], log, lock)
        target = self._languages()[1]
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

    def _execute(self, words: list[str], log: Path, lock: int) -> float:
        """Run ``python``, with one thread unless the environment says more; its CPU seconds."""
        paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
        env = {"OMP_NUM_THREADS": "1", **os.environ}
        env |= {"PYTHONPATH": os.pathsep.join(paths), "PYTHONUTF8": "1"}
        with log.open("a") as file:
            process = subprocess.Popen(
                [sys.executable, *words],
                stdout=file,
                stderr=subprocess.STDOUT,
                env=env,
                pass_fds=[lock],  # held while the command runs, even where its worker is killed
            )
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise RunError(f"{words[1]} ended with status {process.returncode}: see {log}")
        return usage.ru_utime + usage.ru_stime

    def _languages(self) -> list[str]:
        for index in (self.data / "data-bin").glob("train.*-*.*.idx"):
            return index.name.split(".")[1].split("-")
        raise RunError(f"--data {self.data}: expected a folder that prepare.py has made")

    def _data(self) -> list[str]:
        source, target = self._languages()
        plugin, folder = ROOT / "fairseq_dartsformer", self.data / "data-bin"
        words = [folder, "--user-dir", plugin, "--source-lang", source, "--target-lang", target]
        return list(map(str, words))


def read_log(text: str, updates: int) -> dict[str, str]:
    """Parameters and validation losses (bits) from fairseq-train's log.

    Raises:
        RunError: something is missing.
    """
    valid = {int(v["valid_num_updates"]): v for v in map(json.loads, VALIDATION.findall(text))}
    parameters = PARAMETERS.search(text)
    if not parameters or not valid.keys() >= set(lengths(updates)):
        raise RunError("the training's log lacks the parameters or a validation")
    row = {"parameters": parameters[1].replace(",", "")}
    for measure in ("loss", "nll_loss"):
        for length in lengths(updates):
            row[f"{measure}_{length}"] = f"{float(valid[length][f'valid_{measure}']):.3f}"
    return row


@contextmanager
def locked(folder: Path) -> Iterator[int | None]:
    """Hold a run's lock: its file descriptor, or ``None`` while another process holds it."""
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / ".lock", "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield None
        else:
            yield file.fileno()


def work(runs: Sequence[Run], table: Table) -> tuple[list[Run], list[Run]]:
    """Complete the runs in their order, without those that another worker holds.

    Returns:
        The runs that failed, and those that another worker held.
    """
    failed, held = [], []
    for run in runs:
        if table.has(run.named.name, run.seed):
            continue
        with locked(run.folder) as lock:
            if lock is None:
                held.append(run)
                continue
            if table.has(run.named.name, run.seed):  # completed since the first look
                continue
            print(f"{run.folder.name}: start", flush=True)
            try:
                row = run.complete(lock)
            except RunError as error:
                print(f"{run.folder.name}: {error}", flush=True)
                failed.append(run)
                continue
            table.add(row)
            run.clean()
            print(f"{run.folder.name}: loss {row[f'loss_{run.updates}']}", flush=True)
    return failed, held
