"""Measurements of a checkpoint that an earlier version wrote.

Only fairseq's API and commands are used, so that the measurements mean the same in every version of
the plugin. Everything runs in this process: importing fairseq takes seconds.
"""

from __future__ import annotations

import contextlib
import lzma
import re
import runpy
import sys
from collections import defaultdict
from collections.abc import Iterator
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from fairseq import checkpoint_utils, options
from fairseq.dataclass.utils import convert_namespace_to_omegaconf
from fairseq.logging import metrics
from fairseq.tasks import setup_task
from fairseq.trainer import Trainer
from fairseq_cli import generate
from omegaconf import DictConfig
from torch import Tensor

import fairseq_dartsformer  # noqa: F401  registers tasks, models and optimizers

GENERATION = (
    "--gen-subset test --prefix-size 1 --beam 3 --max-len-a 1 --max-len-b 1 --batch-size 8 --cpu "
    "--num-workers 0"
).split()
RESUMING = "--dropout 0 --reset-meters --distributed-world-size 1".split()

Moments = dict[bytes, list[tuple[float, float]]]


@contextlib.contextmanager
def command_line(*arguments: str) -> Iterator[None]:
    """Set ``sys.argv``, which fairseq reads for ``--user-dir`` even where arguments are passed."""
    with patch.object(sys, "argv", ["command", *arguments]):
        yield


def run_command(module: str, *arguments: str) -> None:
    """Run ``python -m MODULE ARGUMENTS...`` in this process."""
    metrics.reset()
    with command_line(*arguments):
        runpy.run_module(module, run_name="__main__")


def pack(checkpoint: Path, packed: Path) -> None:
    """Compress a checkpoint: it has hundreds of tensors, and torch spends 200 bytes on each."""
    packed.write_bytes(lzma.compress(checkpoint.read_bytes(), preset=9 | lzma.PRESET_EXTREME))


def unpack(packed: Path, checkpoint: Path) -> Path:
    """Reverse :func:`pack`."""
    checkpoint.parent.mkdir(parents=True, exist_ok=True)
    checkpoint.write_bytes(lzma.decompress(packed.read_bytes()))
    return checkpoint


def read(checkpoint: Path) -> dict[str, Any]:
    """The checkpoint as saved, without fairseq's or the plugin's conversions."""
    return torch.load(checkpoint, map_location="cpu", weights_only=False)


def evaluation_loss(checkpoint: Path, data: Path) -> float:
    """The model's float32 loss in evaluation mode, summed over the tokens of the test split."""
    (model,), cfg, task = checkpoint_utils.load_model_ensemble_and_task(
        [str(checkpoint)], arg_overrides={"data": str(data)}
    )
    task.load_dataset("test")
    dataset = task.dataset("test")
    batch = dataset.collater([dataset[index] for index in range(len(dataset))])
    model.float().eval()
    with torch.no_grad():
        loss, _, _ = task.build_criterion(cfg.criterion).eval()(model, batch)
    return loss.item()


@cache
def generation_config(data: Path) -> DictConfig:
    """fairseq-generate's configuration without the paths; fairseq takes a second to make one."""
    with command_line():
        parser = options.get_generation_parser()
        return convert_namespace_to_omegaconf(
            options.parse_args_and_arch(parser, [str(data), "--path", "?", *GENERATION])
        )


def hypotheses(checkpoint: Path, data: Path, folder: Path) -> list[str]:
    """fairseq-generate's best hypothesis for each sentence of the test split, in their order."""
    cfg = deepcopy(generation_config(data))
    cfg.common_eval.path, cfg.common_eval.results_path = str(checkpoint), str(folder)
    generate.main(cfg)
    lines = re.findall(r"^H-(\d+)\t\S+\t(.*)$", (folder / "generate-test.txt").read_text(), re.M)
    return [text for _, text in sorted(lines, key=lambda line: int(line[0]))]


def restored_moments(checkpoint: Path, data: Path) -> Moments:
    """The sums of ``exp_avg`` and ``exp_avg_sq`` that a resumed training starts from.

    Returns:
        By the parameter's values (:func:`key`): they identify it when names or order have changed.
        Several parameters may have the same values, such as biases that are still zero.
    """
    cfg = checkpoint_utils.load_checkpoint_to_cpu(str(checkpoint), {"data": str(data)})["cfg"]
    task = setup_task(cfg.task)
    trainer = Trainer(cfg, task, task.build_model(cfg.model), task.build_criterion(cfg.criterion))
    trainer.load_checkpoint(str(checkpoint))
    optimizer = trainer.optimizer.optimizer
    moments: Moments = defaultdict(list)
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            moments[key(parameter)].append(sums(optimizer.state[parameter]))
    return {values: sorted(pairs) for values, pairs in moments.items()}


def key(parameter: Tensor) -> bytes:
    """A parameter's values in float32, which half precision's copies share with the saved ones."""
    return parameter.detach().float().flatten().numpy().tobytes()


def sums(state: dict[str, Tensor]) -> tuple[float, float]:
    """The sums of a parameter's moments."""
    return state["exp_avg"].double().sum().item(), state["exp_avg_sq"].double().sum().item()


def resume(
    arguments: list[str], checkpoint: Path, data: Path, folder: Path, last: int
) -> tuple[dict[str, Any], list[float]]:
    """Resume a training without dropout.

    Args:
        arguments: of the training, without data and paths.
        checkpoint: where it resumes.
        data: the binarised data.
        folder: for new checkpoints.
        last: number of the last update.

    Returns:
        The last checkpoint, and the mean training loss up to each update.
    """
    paths = ["--restore-file", str(checkpoint), "--save-dir", str(folder)]
    saving = ["--max-update", str(last), "--save-interval-updates", "1"]
    run_command("fairseq_cli.train", str(data), *arguments, *RESUMING, *paths, *saving)
    saved = [read(path) for path in folder.glob("checkpoint_*_*.pt")]
    saved.sort(key=lambda state: state["optimizer_history"][-1]["num_updates"])
    meters = [
        meter
        for s in saved
        for _, name, _, meter in s["extra_state"]["metrics"]["train"]
        if name == "loss"
    ]
    return read(folder / "checkpoint_last.pt"), [float(m["sum"] / m["count"]) for m in meters]
