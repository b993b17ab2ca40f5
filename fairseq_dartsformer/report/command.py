"""The command line of a training, from the configuration that its checkpoint carries."""

from __future__ import annotations

import io
import shlex
from collections.abc import Mapping
from contextlib import redirect_stderr
from typing import Any

from fairseq import options
from fairseq.models import ARCH_MODEL_NAME_REGISTRY, MODEL_DATACLASS_REGISTRY

from ..models.architectures import SIZES, fill_sizes

# Where the configuration keeps what the command line sets.
GROUPS = (
    *("task", "model", "criterion", "optimizer", "lr_scheduler", "optimization", "dataset"),
    *("checkpoint", "common", "distributed_training"),
)
NAMED = {
    "task": "--task",
    "model": "--arch",
    "criterion": "--criterion",
    "optimizer": "--optimizer",
    "lr_scheduler": "--lr-scheduler",
}
# Of one process among several, or found by fairseq itself.
OF_PROCESS = {"distributed_rank", "device_id", "distributed_num_procs", "distributed_port"}
# What fairseq takes from another option where it is not given.
FOLLOWS = {"max_tokens_valid": "max_tokens", "batch_size_valid": "batch_size"}

# Values by option, `None` for a flag.
Options = dict[str, str | None]


def training_options(cfg: Mapping[str, Any]) -> Options | None:
    """The options of ``fairseq-train`` that are not its defaults.

    Args:
        cfg: the configuration in a checkpoint.

    Returns:
        These; or ``None`` if the model is none of this project's, or the configuration none that
        fairseq has now.
    """
    try:
        named = {option: str(cfg[group]["_name"]) for group, option in NAMED.items()}
        arch = named["--arch"]
        model = ARCH_MODEL_NAME_REGISTRY.get(arch, arch)
        if model not in SIZES:
            return None
        parser = options.get_training_parser()
        words = [word for pair in named.items() for word in pair]
        with redirect_stderr(io.StringIO()):  # where argparse would say what it does not know
            defaults = options.parse_args_and_arch(parser, [str(cfg["task"]["data"]), *words])
        # Of a model's options fairseq's parser leaves the defaults to its configuration.
        for name, value in vars(MODEL_DATACLASS_REGISTRY[model](_name=arch)).items():
            if not hasattr(defaults, name):
                setattr(defaults, name, value)
        fill_sizes(defaults, model)
        given: dict[str, Any] = {}
        for group in GROUPS:
            given = dict(cfg[group]) | given
    except (KeyError, TypeError, AttributeError, ValueError, RuntimeError, SystemExit):
        return None
    skipped = OF_PROCESS | {name for name, other in FOLLOWS.items() if _same(given, name, other)}
    if not given.get("distributed_no_spawn"):
        skipped.add("distributed_init_method")
    found: Options = dict(named)
    for action in parser._actions:
        name = action.dest
        if name in given and name not in skipped and action.option_strings:
            value, usual = given[name], getattr(defaults, name, None)
            if isinstance(usual, tuple):  # as a configuration cannot hold it
                usual = list(usual)
            if value is not None and value != usual and str(value) != str(usual):
                found.setdefault(action.option_strings[0], _text(value))
    return found


def _same(given: Mapping[str, Any], name: str, other: str) -> bool:
    return given.get(name) == given.get(other)


def _text(value: Any) -> str | None:
    if isinstance(value, bool):
        return None
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)


def command_line(data: str, found: Options) -> str:
    """``fairseq-train`` with these options, an option a line."""
    words = [
        " ".join([option, *map(shlex.quote, [v] * (v is not None))]) for option, v in found.items()
    ]
    return " \\\n  ".join([f"fairseq-train {shlex.quote(data)}", *words])
