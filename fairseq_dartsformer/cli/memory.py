"""``dartsformer-memory``: the memory that a training will take, without a GPU to try it on.

Takes the options of ``fairseq-train`` but the data, and runs updates upon tensors without contents.
"""

import argparse
import logging
import math
from argparse import Namespace
from collections.abc import Callable

from fairseq import options
from fairseq.dataclass.utils import convert_namespace_to_omegaconf
from omegaconf import DictConfig

from ..errors import InputError
from ..memory import MemoryPlan, plan_memory
from ..strategies import STRATEGIES
from . import positive_integer, run_command

# Memory of common GPUs in GiB, a little less than nominal where error correction takes its part.
GPUS = {
    "GTX 1080 Ti": 11,
    "RTX 3060": 12,
    "T4": 14.5,
    "V100-16GB": 15.7,
    "RTX 4090": 23.5,
    "V100-32GB": 31.7,
    "A100-40GB": 39.4,
    "L40S": 44.4,
    "A100-80GB": 79,
    "H100": 79,
    "H200": 139,
}
# Bytes that are not the tensors': CUDA's context and libraries, and what fragmentation wastes.
RESERVE = 1 << 30

DEFAULTS = (
    "--criterion chunked_label_smoothed_cross_entropy --label-smoothing 0.1 --lr 5e-4".split()
)
DERIVED_DEFAULTS = "--task translation --optimizer adam".split()


def get_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="dartsformer-memory",
        description=__doc__,
        epilog="All other options are fairseq-train's: --arch and the architecture's, --optimizer, "
        "--criterion, --fp16, --bf16, --amp. A search's task, optimizer and the chunked criterion "
        "need not be given.",
        allow_abbrev=False,
    )
    parser.add_argument("--arch", "-a", required=True, help="the architecture")
    parser.add_argument(
        "--max-tokens",
        type=positive_integer,
        default=5000,
        metavar="N",
        help="target tokens of a batch (default: 5000)",
    )
    parser.add_argument(
        "--length",
        type=positive_integer,
        default=50,
        metavar="N",
        help="tokens of a sentence, on both sides (default: 50)",
    )
    parser.add_argument(
        "--vocabulary",
        type=positive_integer,
        default=32768,
        metavar="N",
        help="symbols of the dictionary, which both sides share (default: 32768)",
    )
    parser.add_argument(
        "--search-strategy",
        choices=list(STRATEGIES),
        default="darts",
        help="of a search (default: darts)",
    )
    parser.add_argument(
        "--gpu",
        metavar="NAME",
        help=f"also find the largest batch for a GPU: {', '.join(GPUS)}, or its memory in GiB",
    )
    return parser


def training_config(args: Namespace, rest: list[str]) -> DictConfig:
    """fairseq's configuration of the training that the options describe.

    Raises:
        InputError: an option cannot be planned for.
    """
    defaults = DERIVED_DEFAULTS
    if "_search" in args.arch:
        optimizer = STRATEGIES[args.search_strategy].optimizer
        defaults = ["--task", "translation_search", "--search-strategy", args.search_strategy]
        defaults += ["--optimizer", optimizer]
    given = ["--arch", args.arch, "--max-tokens", str(args.max_tokens)]
    parser = options.get_training_parser()
    namespace = options.parse_args_and_arch(
        parser, input_args=["none", *defaults, *DEFAULTS, *given, *rest]
    )
    cfg = convert_namespace_to_omegaconf(namespace)
    for half in ("fp16", "bf16"):
        if cfg.common[f"memory_efficient_{half}"]:
            raise InputError(f"--memory-efficient-{half} cannot be planned, only --{half}")
    if "check_reconstruction" in cfg.model:
        cfg.model.check_reconstruction = 0  # there is nothing to compare
    return cfg


def capacity(gpu: str) -> int:
    """Bytes that tensors may take on a GPU.

    Raises:
        InputError: no such GPU is known, and it is no number.
    """
    try:
        size = GPUS[gpu] if gpu in GPUS else float(gpu)
    except ValueError:
        size = math.nan
    if not size > 1:
        raise InputError(
            f"--gpu is {gpu!r}: expected its memory in GiB, more than 1, or one of "
            f"{', '.join(GPUS)}"
        )
    return int(size * 2**30) - RESERVE


def report(plan: MemoryPlan, tokens: int) -> str:
    """The parts of a plan in GB (1e9 bytes), and the smallest GPU that holds it."""
    rows = {
        "parameters": plan.parameters,
        "gradients": plan.gradients,
        "optimizer": plan.optimizer,
        "activations": plan.activations,
        "output layer": plan.output_layer,
        "peak of all": plan.total,
    }
    lines = [f"{plan.count / 1e6:.1f}M parameters, {tokens} tokens a batch, one worker"]
    lines += [f"{name:<13}{size / 1e9:9.3f} GB" for name, size in rows.items()]
    fitting = [name for name in GPUS if capacity(name) >= plan.total]
    lines.append(
        f"fits {fitting[0]} ({GPUS[fitting[0]]} GiB)" if fitting else "fits none of the common GPUs"
    )
    return "\n".join(lines)


def largest_batch(total_of: Callable[[int], int], limit: int, sentences: int) -> int:
    """The most sentences that fit, to within 2 %, by false position: memory is almost linear.

    Args:
        total_of: bytes by the number of sentences.
        limit: bytes that there are.
        sentences: where to begin.

    Returns:
        The number, 0 if not even one fits.
    """
    fits, breaks, spare = 0, sentences, limit
    while (over := total_of(breaks) - limit) <= 0:
        fits, spare = breaks, -over
        breaks *= 2
    lack = over
    while breaks - fits > max(1, fits // 50):
        middle = fits + round((breaks - fits) * spare / (spare + lack))
        middle = min(max(middle, fits + 1), breaks - 1)
        over = total_of(middle) - limit
        if over <= 0:  # and lessen the weight of the other end, which else would never move
            fits, spare, lack = middle, -over, lack / 2
        else:
            breaks, lack, spare = middle, over, spare / 2
    return fits


def main(args: Namespace, rest: list[str]) -> None:
    """Plan and report.

    Raises:
        InputError: an option is at fault.
    """
    limit = None if args.gpu is None else capacity(args.gpu)
    cfg = training_config(args, rest)
    logging.getLogger("fairseq").setLevel(logging.WARNING)
    sentences = max(1, args.max_tokens // args.length)
    plan = plan_memory(cfg, args.vocabulary, sentences, args.length)
    print(report(plan, sentences * args.length))
    if limit is not None:

        def total_of(sentences: int) -> int:
            total = plan_memory(cfg, args.vocabulary, sentences, args.length).total
            print(f"  {sentences * args.length} tokens: {total / 1e9:.3f} GB", flush=True)
            return total

        most = largest_batch(total_of, limit, sentences)
        print(f"largest batch for {args.gpu}: {most * args.length} tokens ({most} sentences)")


def cli_main() -> None:
    run_command(get_parser(), main, others=True)


if __name__ == "__main__":
    cli_main()
