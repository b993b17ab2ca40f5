"""The command line of a training, from the configuration in its checkpoint."""

import io
import shlex
from collections.abc import Mapping
from contextlib import redirect_stderr
from typing import Any

from fairseq import options
from fairseq.models import ARCH_MODEL_NAME_REGISTRY, MODEL_DATACLASS_REGISTRY

from ..models.architectures import SIZES, fill_sizes

# Parts of the configuration that hold command line options.
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
# Options that differ between processes or that fairseq or a search sets itself.
OF_PROCESS = {"distributed_rank", "device_id", "distributed_num_procs", "distributed_port"}
OF_PROCESS |= {"fp16_no_flatten_grads"}
# Options with the default of another one.
FOLLOWS = {"max_tokens_valid": "max_tokens", "batch_size_valid": "batch_size"}

# Value of each option; `None` for a flag.
Options = dict[str, str | None]


def training_options(cfg: Mapping[str, Any]) -> Options | None:
    """Find the options of ``fairseq-train`` that differ from its defaults.

    Args:
        cfg: the configuration in a checkpoint.

    Returns:
        The options; ``None`` for models of other projects and configurations of other versions.
    """
    try:
        named = {option: str(cfg[group]["_name"]) for group, option in NAMED.items()}
        arch = named["--arch"]
        model = ARCH_MODEL_NAME_REGISTRY.get(arch, arch)
        if model not in SIZES:
            return None
        parser = options.get_training_parser()
        words = [word for pair in named.items() for word in pair]
        with redirect_stderr(io.StringIO()):  # argparse prints its errors
            defaults = options.parse_args_and_arch(parser, [str(cfg["task"]["data"]), *words])
        # fairseq's parser has no defaults of a model's options; its configuration has.
        for name, value in vars(MODEL_DATACLASS_REGISTRY[model](_name=arch)).items():
            if not hasattr(defaults, name):
                setattr(defaults, name, value)
        fill_sizes(defaults, model)
        given: dict[str, Any] = {}
        for group in GROUPS:
            given = dict(cfg[group]) | given
    except (KeyError, TypeError, AttributeError, ValueError, RuntimeError, SystemExit):
        return None
    skipped = {n for n, other in FOLLOWS.items() if given.get(n) == given.get(other)} | OF_PROCESS
    if given.get("decoder_splits") == (given.get("encoder_splits") or 0) + 1:  # the default
        skipped.add("decoder_splits")
    if not given.get("distributed_no_spawn"):
        skipped.add("distributed_init_method")
    found: Options = dict(named)
    for action in parser._actions:
        name = action.dest
        if name in given and name not in skipped and action.option_strings:
            value, usual = given[name], getattr(defaults, name, None)
            if isinstance(usual, tuple):  # configurations hold lists
                usual = list(usual)
            if value is not None and value != usual and str(value) != str(usual):
                text = ",".join(map(str, value)) if isinstance(value, list) else str(value)
                found.setdefault(
                    action.option_strings[0], None if isinstance(value, bool) else text
                )
    return found


def command_line(data: str, found: Options) -> str:
    """Write ``fairseq-train`` with these options, one a line."""
    lines = [option if v is None else f"{option} {shlex.quote(v)}" for option, v in found.items()]
    return " \\\n  ".join([f"fairseq-train {shlex.quote(data)}", *lines])
