"""Runs fairseq's commands as users do, on small data, each in a separate process.

The processes are forked from a server that has imported fairseq, which saves seconds per run.
"""

from __future__ import annotations

import importlib
import multiprocessing
import os
import random
import re
import socket
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing import forkserver
from pathlib import Path
from typing import Any

import torch
from fairseq.logging import progress_bar

import fairseq_dartsformer
from fairseq_dartsformer.fairseq_patches import load_checkpoint
from fairseq_dartsformer.search_space.genotype import Genotype
from helpers.training_steps import Step, watch

PLUGIN = str(Path(fairseq_dartsformer.__file__).parent)
TIMEOUT = 240  # seconds; a run takes one or two on a machine that is not busy

DARTS_GENOTYPE = Genotype(
    encoder=[["self_attention", "ffn"], ["conv_3", "glu"]],
    decoder=[["dynamic_conv_3", "cross_attention", "ffn"]],
    pooling=None,
    family="darts_transformer",
)

SIZES = "--hidden-dim 24 --ffn-dim 16 --decoder-layers 2 --attention-heads 2 --dropout 0.1".split()
TRANSLATION = "--source-lang aa --target-lang bb --encoder-layers 2".split()
COMMON = (
    "--batch-size 16 --num-workers 0 --cpu --log-format none "
    "--criterion label_smoothed_cross_entropy --label-smoothing 0.1 --no-epoch-checkpoints "
    "--lr 5e-3 --lr-scheduler inverse_sqrt --warmup-updates 4 --warmup-init-lr 1e-3"
).split()
SUPERNET = [
    *"--task translation_search --arch dartsformer_search --embed-dim 8".split(),
    *"--encoder-operations conv_3,dynamic_conv_3,self_attention,ffn,identity".split(),
    *"--decoder-operations conv_3,self_attention,cross_attention,glu,zero".split(),
]
SEARCH = [*SUPERNET, *"--optimizer bilevel_adam --arch-lr 3e-3".split()]
DARTS = [*SEARCH, *"--arch darts_transformer_search".split()]
SAMPLING = [
    *SUPERNET,
    *"--search-strategy uniform_sampling --optimizer adam --adam-betas (0.9,0.98)".split(),
]
SAMPLING_DARTS = [*SAMPLING, *"--arch darts_transformer_search".split()]
DERIVED = (
    "--task translation --arch dartsformer --optimizer adam --embed-dim 8 "
    "--genotype paper_fig4_approx"
).split()
DERIVED_DARTS = [
    *"--task translation --arch darts_transformer --optimizer adam --embed-dim 8".split(),
    *["--genotype", DARTS_GENOTYPE.to_json()],
]
TEXT_SEARCH = (
    "--task language_modeling_search --arch dartsformer_lm_search --embed-dim 8 "
    "--decoder-operations conv_3,self_attention,dynamic_conv_3,glu,zero --tokens-per-sample 8 "
    "--optimizer bilevel_adam --arch-lr 3e-3"
).split()
TEXT_DARTS = [*TEXT_SEARCH, *"--arch darts_transformer_lm_search".split()]
TEXT_GENOTYPE = Genotype(None, [["ffn", "self_attention"]], "max", "dartsformer_lm")
TEXT_DERIVED = [
    *"--task language_modeling --arch dartsformer_lm --optimizer adam --embed-dim 8".split(),
    *["--tokens-per-sample", "8", "--genotype", TEXT_GENOTYPE.to_json()],
]
EVOLVED = "--task translation --arch evolved_transformer --optimizer adam".split()
LOGGED = "--log-interval 2 --save-interval-updates 2 --max-update 8".split()


@dataclass
class Run:
    """A running or finished command."""

    folder: Path
    process: multiprocessing.process.BaseProcess = field(repr=False)

    def wait(self) -> Run:
        self.process.join(TIMEOUT)
        if self.process.exitcode is None:
            self.process.kill()
            raise TimeoutError(f"{self.folder}: {self.stderr}")
        return self

    @property
    def status(self) -> int | None:
        """Exit status; minus the signal's number if one ended it."""
        return self.process.exitcode

    @property
    def stdout(self) -> str:
        return (self.folder / "stdout").read_text()

    @property
    def stderr(self) -> str:
        return (self.folder / "stderr").read_text()

    @property
    def steps(self) -> list[Step]:
        """The recorded steps."""
        return torch.load(self.folder / "steps", weights_only=False)


def start_server() -> None:
    """Start the server; every process inherits its settings: one thread, no GPU."""
    settings = {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "PYTHONWARNINGS": "ignore"}
    paths = [str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH")]  # helpers.warm_up's
    settings["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
    before = {name: os.environ.get(name) for name in settings}
    os.environ.update(settings)
    forkserver.set_forkserver_preload(
        ["pytest", "torch._dynamo", "fairseq_cli.train", "fairseq_dartsformer", "helpers.warm_up"]
    )
    forkserver.ensure_running()
    for name, value in before.items():
        os.environ.pop(name) if value is None else os.environ.update({name: value})


def start(
    command: str,
    arguments: list[str],
    folder: Path,
    record: bool = False,
    kill_after: int | None = None,
    prepare: Callable[[], None] | None = None,
) -> Run:
    """Start ``fairseq-COMMAND ARGUMENTS...``.

    Args:
        command: `train`, `preprocess` ...
        arguments: as on the command line.
        folder: for the output; created if it does not exist.
        record: record every step of a training.
        kill_after: send SIGKILL to a training after so many updates.
        prepare: called in the process before the command; must be picklable.
    """
    folder.mkdir(parents=True, exist_ok=True)
    process = multiprocessing.get_context("forkserver").Process(
        target=_run, args=(command, arguments, folder, record, kill_after, prepare)
    )
    process.start()
    return Run(folder, process)


def _run(
    command: str,
    arguments: list[str],
    folder: Path,
    record: bool,
    kill_after: int | None,
    prepare: Callable[[], None] | None,
) -> None:
    """Run in the command's process."""
    for stream in (sys.stdout, sys.stderr):
        with open(folder / stream.name.strip("<>"), "w") as file:
            os.dup2(file.fileno(), stream.fileno())
    # The forkserver method would start data loading processes from another server.
    multiprocessing.set_start_method(None, force=True)
    sys.argv = [f"fairseq-{command}", *arguments]
    steps: list[Step] = []
    watch(steps if record else None, kill_after)
    if prepare is not None:
        prepare()
    try:
        importlib.import_module(f"fairseq_cli.{command}").cli_main()
    except Exception:
        sys.excepthook(*sys.exc_info())  # multiprocessing does not call it
        sys.exit(1)
    progress_bar._close_writers()  # of TensorBoard; multiprocessing runs no exit handlers
    if record:
        torch.save(steps, folder / "steps")


def training(kind: list[str], data: Path, folder: Path, *options: str) -> list[str]:
    """Arguments of a small training; ``kind`` is :data:`SEARCH` or another such list."""
    paths = [str(data), "--user-dir", PLUGIN, "--save-dir", str(folder / "checkpoints")]
    text = any(option.startswith("language_modeling") for option in kind)
    fairseqs = not {"transformer", "transformer_lm"}.isdisjoint(kind)  # has other names for sizes
    kind = [*TRANSLATION * (not text), *SIZES * (not fairseqs), *kind]
    return [*paths, *COMMON, *kind, *options]


def train(kind: list[str], data: Path, folder: Path, *options: str, **watching: Any) -> Run:
    """Train, and check that the training succeeds."""
    run = start("train", training(kind, data, folder, *options), folder, **watching).wait()
    assert run.status == 0, run.stderr
    return run


def start_workers(
    arguments: list[str], output: Path, workers: int = 2, **watching: Any
) -> list[Run]:
    """Start several workers on CPUs with gloo; each writes to a folder by rank."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    distributed = f"--distributed-world-size {workers} --distributed-no-spawn".split()
    distributed += f"--distributed-init-method tcp://127.0.0.1:{port}".split()
    distributed += "--distributed-backend gloo --distributed-rank".split()
    return [
        start("train", [*arguments, *distributed, str(rank)], output / f"rank{rank}", **watching)
        for rank in range(workers)
    ]


def run_workers(
    kind: list[str], data: Path, folder: Path, *options: str, workers: int = 2, **watching: Any
) -> list[Run]:
    """Train with several workers, and wait until all of them end."""
    arguments = training(kind, data, folder, *options)
    return [run.wait() for run in start_workers(arguments, folder, workers, **watching)]


def train_workers(
    kind: list[str], data: Path, folder: Path, *options: str, workers: int = 2, **watching: Any
) -> list[Run]:
    """Train with several workers, and check that all of them succeed."""
    runs = run_workers(kind, data, folder, *options, workers=workers, **watching)
    assert [run.status for run in runs] == [0] * workers, "\n".join(run.stderr for run in runs)
    return runs


def check_line(run: Run, pattern: str) -> None:
    """Check that a finished run was refused with one line on its standard error."""
    assert run.status == 1, run.stderr
    # torch puts the rank before it.
    line = re.fullmatch(r"(?:\[rank\d+\]: )?fairseq_dartsformer\.errors\.\w+: (.+)\n", run.stderr)
    assert line and re.search(pattern, line[1]), run.stderr


def refused(
    kind: list[str], data: Path, folder: Path, *options: str, pattern: str, output: str = "again"
) -> None:
    """Train, and check that the training is refused with one line."""
    run = start("train", training(kind, data, folder, *options), folder / output).wait()
    check_line(run, pattern)


def checkpoint(folder: Path, name: str = "last") -> dict[str, Any]:
    """A checkpoint that a training in ``folder`` wrote."""
    return load_checkpoint(str(folder / "checkpoints" / f"checkpoint_{name}.pt"))


def raw_checkpoint(folder: Path, name: str = "last") -> dict[str, Any]:
    """A checkpoint without fairseq's upgrades."""
    return torch.load(folder / "checkpoints" / f"checkpoint_{name}.pt", weights_only=False)


def prepare_data(folder: Path) -> Path:
    """A small binarised corpus: splits train, valid, `test` (50 pairs), and `test1`, empty.

    Every word has one translation, and some words are much more frequent than others: both are
    learnt within a few updates. Beside the pairs is a text of the source's sentences, whose
    training split has documents of three.
    """
    source = random.Random(1)
    for split, pairs in {"train": 300, "valid": 20, "test": 50, "none": 0}.items():
        with open(folder / f"{split}.aa", "w") as aa, open(folder / f"{split}.bb", "w") as bb:
            for _ in range(pairs):
                words = [int(40 * source.random() ** 2) for _ in range(source.randint(2, 9))]
                print(*(f"w{word}" for word in words), file=aa)
                print(*(f"w{(word + 1) % 40}" for word in words), file=bb)
    arguments = "--source-lang aa --target-lang bb --joined-dictionary --workers 1".split()
    arguments += [
        "--destdir",
        str(folder / "binarised"),
        "--testpref",
        f"{folder}/test,{folder}/none",
    ]
    for split in ("train", "valid"):
        arguments += [f"--{split}pref", str(folder / split)]
    lines = (folder / "train.aa").read_text().splitlines()
    documents = ["\n".join(lines[i : i + 3]) for i in range(0, len(lines), 3)]
    (folder / "documents").write_text("\n\n".join(documents) + "\n")
    text = ["--only-source", "--workers", "1", "--destdir", str(folder / "binarised")]
    text += ["--trainpref", str(folder / "documents")]
    text += ["--validpref", str(folder / "valid.aa"), "--testpref", str(folder / "test.aa")]
    for name, given in (("pairs", arguments), ("text", text)):
        run = start("preprocess", given, folder / name).wait()
        assert run.status == 0, run.stderr
    return folder / "binarised"
