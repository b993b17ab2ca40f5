"""fairseq's commands as users run them, on small data: each run is a process of its own.

The processes are forked from a server that has imported fairseq once, which saves seconds a run.
"""

from __future__ import annotations

import importlib
import multiprocessing
import os
import random
import signal
import socket
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing import forkserver
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import fairseq_dartsformer
from fairseq_dartsformer.compat import load_checkpoint
from fairseq_dartsformer.levels import LEVELS, level_of

PLUGIN = str(Path(fairseq_dartsformer.__file__).parent)
TIMEOUT = 240  # seconds: a run takes one or two, but a machine may be busy

SIZES = (
    "--embed-dim 8 --hidden-dim 24 --ffn-dim 16 --encoder-layers 2 --decoder-layers 2 "
    "--attention-heads 2 --dropout 0.1"
).split()
COMMON = (
    "--source-lang aa --target-lang bb --batch-size 16 --cpu --lr 5e-3 --lr-scheduler inverse_sqrt "
    "--warmup-updates 4 --warmup-init-lr 1e-3 --criterion label_smoothed_cross_entropy --label-smoothing 0.1 "
    "--no-epoch-checkpoints --log-format none --num-workers 0"
).split()
SEARCH = [
    *"--task translation_search --arch dartsformer_search --optimizer bilevel_adam".split(),
    *"--encoder-operations conv_3,dynamic_conv_3,self_attention,ffn,identity".split(),
    *"--decoder-operations conv_3,self_attention,cross_attention,glu,zero".split(),
    *"--arch-lr 3e-3".split(),
]
DERIVED = (
    "--task translation --arch dartsformer --optimizer adam --genotype paper_fig4_approx".split()
)


@dataclass
class Step:
    """What a call of the trainer's ``train_step`` left behind; of the start, for the first.

    Attributes:
        level: the update's level, ``None`` for a derived model.
        updates: number of updates so far; an overflow leaves it as it was.
        loss: mean loss of the update's words in bits, ``None`` after an overflow.
        lr: learning rates of the optimizer's groups.
        state: of each level, its parameters in one vector: their ``value``, their ``master`` in
            the optimizer, the ``gradient`` there (0 for none) and Adam's moments.
    """

    level: str | None
    updates: int
    loss: float | None
    lr: list[float]
    state: dict[str, dict[str, Tensor]]

    @classmethod
    def of(cls, trainer, log: dict[str, Any] | None) -> Step:
        optimizer = trainer.optimizer
        masters = {}
        if hasattr(optimizer, "fp16_params"):
            pairs = zip(optimizer.fp16_params, optimizer.fp32_params, strict=True)
            masters = {id(half): single for half, single in pairs}
        parts: dict[str, dict[str, list[Tensor]]] = {level: {} for level in LEVELS}
        for parameter in trainer.get_model().parameters():
            master = masters.get(id(parameter), parameter)
            gradient = torch.zeros_like(master) if master.grad is None else master.grad
            moments = optimizer.optimizer.state[master]
            values = {"value": parameter, "master": master, "gradient": gradient, **moments}
            of_level = parts[level_of(parameter)]
            for name, value in values.items():
                of_level.setdefault(name, []).append(torch.as_tensor(value).detach().flatten())
        return cls(
            level=getattr(optimizer.optimizer, "level", None),
            updates=trainer.get_num_updates(),
            loss=None if log is None else float(log["loss"]),
            lr=[group["lr"] for group in optimizer.param_groups],
            state={
                level: {name: torch.cat(values) for name, values in of_level.items()}
                for level, of_level in parts.items()
            },
        )


@dataclass
class Run:
    """A command under way, or its results."""

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
        """What was recorded."""
        return torch.load(self.folder / "steps", weights_only=False)


def start_server() -> None:
    """Start the server, with settings that every process inherits: one thread, no GPU."""
    settings = {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "PYTHONWARNINGS": "ignore"}
    before = {name: os.environ.get(name) for name in settings}
    os.environ.update(settings)
    forkserver.set_forkserver_preload(
        ["pytest", "torch._dynamo", "fairseq_cli.train", "fairseq_dartsformer"]
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
) -> Run:
    """Start ``fairseq-COMMAND ARGUMENTS...``.

    Args:
        command: `train`, `preprocess` ...
        arguments: as on the command line.
        folder: for the output; made if need be.
        record: record every step of a training.
        kill_after: send SIGKILL to a training after so many updates.
    """
    folder.mkdir(parents=True, exist_ok=True)
    process = multiprocessing.get_context("forkserver").Process(
        target=_run, args=(command, arguments, folder, record, kill_after)
    )
    process.start()
    return Run(folder, process)


def _run(
    command: str, arguments: list[str], folder: Path, record: bool, kill_after: int | None
) -> None:
    """Be the command's process."""
    for stream in (sys.stdout, sys.stderr):
        with open(folder / stream.name.strip("<>"), "w") as file:
            os.dup2(file.fileno(), stream.fileno())
    sys.argv = [f"fairseq-{command}", *arguments]
    steps: list[Step] = []
    _watch(steps if record else None, kill_after)
    try:
        importlib.import_module(f"fairseq_cli.{command}").cli_main()
    except Exception:
        sys.excepthook(*sys.exc_info())  # multiprocessing would not ask it
        sys.exit(1)
    if record:
        torch.save(steps, folder / "steps")


def _watch(steps: list[Step] | None, kill_after: int | None) -> None:
    from fairseq.trainer import Trainer

    train_step: Callable = Trainer.train_step

    def watched(self: Trainer, *arguments, **options):
        if steps == []:
            steps.append(Step.of(self, None))
        log = train_step(self, *arguments, **options)
        if steps is not None:
            steps.append(Step.of(self, log))
        if self.get_num_updates() == kill_after:
            os.kill(os.getpid(), signal.SIGKILL)
        return log

    Trainer.train_step = watched


def training(kind: list[str], data: Path, folder: Path, *options: str) -> list[str]:
    """Arguments of a small training; ``kind`` is :data:`SEARCH` or :data:`DERIVED`."""
    paths = [str(data), "--user-dir", PLUGIN, "--save-dir", str(folder / "checkpoints")]
    return [*paths, *COMMON, *SIZES, *kind, *options]


def train(kind: list[str], data: Path, folder: Path, *options: str, **watching: Any) -> Run:
    """Train, and see it end well."""
    run = start("train", training(kind, data, folder, *options), folder, **watching).wait()
    assert run.status == 0, run.stderr
    return run


def train_workers(
    kind: list[str], data: Path, folder: Path, *options: str, workers: int = 2, **watching: Any
) -> list[Run]:
    """Train with several workers over gloo, each started as a user would on a CPU."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    distributed = f"--distributed-world-size {workers} --distributed-no-spawn".split()
    distributed += f"--distributed-init-method tcp://127.0.0.1:{port}".split()
    distributed += "--distributed-backend gloo --distributed-rank".split()
    arguments = training(kind, data, folder, *options, *distributed)
    runs = [
        start("train", [*arguments, str(rank)], folder / f"rank{rank}", **watching)
        for rank in range(workers)
    ]
    for run in runs:
        run.wait()
    assert [run.status for run in runs] == [0] * workers, "\n".join(run.stderr for run in runs)
    return runs


def checkpoint(folder: Path, name: str = "last") -> dict[str, Any]:
    """A checkpoint that a training in ``folder`` wrote."""
    return load_checkpoint(str(folder / "checkpoints" / f"checkpoint_{name}.pt"))


def prepare_data(folder: Path) -> Path:
    """A small binarised corpus: splits train, valid, `test` (50 pairs), and `test1`, empty.

    Every word has one translation, and some words are much more frequent than others: both are
    learnt within a few updates.
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
    run = start("preprocess", arguments, folder / "preprocess").wait()
    assert run.status == 0, run.stderr
    return folder / "binarised"
