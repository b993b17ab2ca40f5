"""``dartsformer-memory``: the memory that a training will take, without a GPU to try it on.

Takes the options of ``fairseq-train`` but the data, and runs updates upon tensors without contents.
"""

import math
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path

from omegaconf import DictConfig

from ..errors import InputError
from ..memory.planner import MemoryPlan, count_parameters, plan_memory, training_config
from .command import (
    FIGURE_FORMATS,
    CommandParser,
    add_vocabulary,
    check_output,
    number,
    positive_integer,
    quiet,
    replacing,
    run_command,
)

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
HIDDEN_DIMS = (120, 240, 480, 720, 960)
MOST_TOKENS = 1_000_000  # of a batch


def _tokens(text: str) -> int:
    """More than a GPU holds would only take long: the criterion's chunks are gone through."""
    return number(
        text, int, lambda n: 1 <= n <= MOST_TOKENS, f"a whole number from 1 to {MOST_TOKENS}"
    )


def get_parser() -> CommandParser:
    parser = CommandParser(
        prog="dartsformer-memory",
        description=__doc__,
        epilog="All other options are fairseq-train's: --arch and the architecture's, --optimizer, "
        "--criterion, --search-strategy, --fp16, --bf16, --amp. A search's task, optimizer and the "
        "chunked criterion need not be given.",
        allow_abbrev=False,
    )
    parser.add_argument("--arch", "-a", help="the architecture")
    parser.add_argument(
        "--max-tokens",
        type=_tokens,
        default=5000,
        metavar="N",
        help="target tokens of a batch (default: 5000)",
    )
    parser.add_argument(
        "--length",
        type=_tokens,
        default=50,
        metavar="N",
        help="tokens of a sentence, on both sides (default: 50)",
    )
    add_vocabulary(parser)
    parser.add_argument(
        "--gpu",
        metavar="NAME",
        help=f"also find the largest batch for a GPU: {', '.join(GPUS)}, or its memory in GiB",
    )
    parser.add_argument(
        "--figure",
        metavar="FILE",
        help="draw the paper's Figure 1 instead, of searches by DARTS on a Transformer and by "
        "DARTSformer; as SVG, PNG or PDF, by the suffix",
    )
    parser.add_argument(
        "--hidden-dims",
        type=positive_integer,
        nargs="+",
        metavar="D",
        help=f"the figure's hidden sizes (default: {' '.join(map(str, HIDDEN_DIMS))})",
    )
    return parser


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


# What the figure compares; both with the embedding of the paper's main setting.
CURVES = {
    "DARTS on a Transformer": "darts_transformer_search",
    "DARTSformer": "dartsformer_search",
}


def draw(args: Namespace, rest: list[str]) -> None:
    """Plan the curves, print them as a table, and draw them.

    Raises:
        InputError: an option is at fault.
    """
    from ..plots import memory_figure, save

    path = Path(args.figure)
    check_output(path, [], "--figure")
    if path.suffix[1:] not in FIGURE_FORMATS:
        raise InputError(f"--figure {path}: expected a suffix of {', '.join(FIGURE_FORMATS)}")
    hidden_dims = args.hidden_dims or HIDDEN_DIMS
    cfgs = {
        (name, d): point_config(arch, d, rest) for name, arch in CURVES.items() for d in hidden_dims
    }
    for cfg in cfgs.values():
        count_parameters(cfg, args.vocabulary)  # refuses what does not fit, before the table begins
    sentences = max(1, args.max_tokens // args.length)
    curves: dict[str, list[int]] = {name: [] for name in CURVES}
    print("|", " | ".join(["hidden size", *(f"{name} (GB)" for name in CURVES)]), "|")
    print("|---" * (1 + len(CURVES)) + "|")
    for hidden_dim in hidden_dims:
        print(f"| {hidden_dim}", end="", flush=True)
        for name in CURVES:
            plan = plan_memory(cfgs[name, hidden_dim], args.vocabulary, sentences, args.length)
            curves[name].append(plan.total)
            print(f" | {curves[name][-1] / 1e9:.2f}", end="", flush=True)
        print(" |")
    limits = {name: capacity(name) for name in ("V100-16GB", "V100-32GB", "A100-80GB")}
    figure = memory_figure(hidden_dims, curves, limits)
    with replacing(path, "--figure") as temporary:
        save(figure, temporary, path.suffix[1:])
    print(f"wrote {path}")


def point_config(arch: str, hidden_dim: int, rest: list[str]) -> DictConfig:
    """The configuration of a search of that hidden size."""
    # 8 heads, where they divide half and a third of d.
    options = f"--hidden-dim {hidden_dim} --attention-heads {4 if hidden_dim % 48 else 8} "
    options += "--embed-dim 256 --share-all-embeddings"
    return training_config(arch, [*options.split(), *rest])


def main(args: Namespace, rest: list[str]) -> None:
    """Plan and report.

    Raises:
        InputError: an option is at fault.
    """
    quiet()
    if (args.arch is None) == (args.figure is None):
        raise InputError("--arch or --figure, which takes its own architectures: give one of them")
    if args.figure is not None:
        if args.gpu is not None:
            raise InputError(f"--gpu is {args.gpu}: it goes with --arch, not with --figure")
        return draw(args, rest)
    if args.hidden_dims is not None:
        raise InputError("--hidden-dims goes with --figure; that of an --arch is --hidden-dim")
    limit = None if args.gpu is None else capacity(args.gpu)
    cfg = training_config(args.arch, ["--max-tokens", str(args.max_tokens), *rest])
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
