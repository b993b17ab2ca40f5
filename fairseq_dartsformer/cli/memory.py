"""``dartsformer-memory``: plan the memory of a training without running it.

Takes fairseq-train's options except the data, and runs updates on tensors without contents.
"""

import math
from argparse import Namespace
from bisect import bisect_right
from collections.abc import Callable
from pathlib import Path

from ..errors import InputError
from ..memory.planner import LENGTH, MemoryPlan, count_parameters, plan_memory, training_config
from ..plots import memory_figure, save
from .command import (
    FIGURE_FORMATS,
    CommandParser,
    add_vocabulary,
    check_output,
    positive_integer,
    replacing,
    run_command,
    whole_number,
)

# Memory of common GPUs in GiB; below the nominal size where error correction takes a part.
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
# Bytes that tensors cannot have: CUDA's context and libraries, and fragmentation.
RESERVE = 1 << 30
MOST_TOKENS = 1_000_000  # of a batch; larger plans take long and fit no GPU
# Figure 1 at these d, with the embedding of the paper's main setting.
HIDDEN_DIMS = (120, 240, 480, 720, 960)
CURVES = {
    "DARTS on a Transformer": "darts_transformer_search",
    "DARTSformer": "dartsformer_search",
}


def get_parser() -> CommandParser:
    parser = CommandParser(
        prog="dartsformer-memory",
        description=__doc__,
        epilog="All other options are fairseq-train's: --arch and the architecture's, --optimizer, "
        "--criterion, --search-strategy, --fp16, --bf16, --amp. A search needs no --task, "
        "--optimizer or --criterion.",
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--arch", "-a", help="the architecture")
    tokens = {"type": whole_number(1, MOST_TOKENS), "metavar": "N"}
    add("--max-tokens", default=5000, help="target tokens of a batch (default: 5000)", **tokens)
    length = f"tokens of a sentence, on both sides (default: {LENGTH}); of a language model, of a "
    length += "window (default: --tokens-per-sample)"
    add("--length", help=length, **tokens)
    add_vocabulary(parser)
    add(
        "--gpu",
        metavar="NAME",
        help=f"also find the largest batch for a GPU: {', '.join(GPUS)}, or its memory in GiB",
    )
    add(
        "--figure",
        metavar="FILE",
        help="instead, draw the paper's Figure 1, of searches by DARTS on a Transformer and by "
        "DARTSformer (.svg, .png or .pdf)",
    )
    add(
        "--hidden-dims",
        type=positive_integer,
        nargs="+",
        metavar="D",
        help=f"hidden sizes of the figure (default: {' '.join(map(str, HIDDEN_DIMS))})",
    )
    return parser


def capacity(gpu: str) -> int:
    """Bytes that tensors may take on a GPU, given by name or by GiB; anything else raises an
    :class:`InputError`."""
    try:
        size = GPUS[gpu] if gpu in GPUS else float(gpu)
    except ValueError:
        size = math.nan
    if not 1 < size < math.inf:
        raise InputError(
            f"--gpu is {gpu!r}: expected its memory in GiB, more than 1, or one of "
            f"{', '.join(GPUS)}"
        )
    return int(size * 2**30) - RESERVE


def report(plan: MemoryPlan, tokens: int) -> str:
    """List the parts of a plan in GB (1e9 bytes), and the smallest GPU that holds it."""
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
    fitting = [f"{name} ({GPUS[name]} GiB)" for name in GPUS if capacity(name) >= plan.total]
    return "\n".join([*lines, f"fits {[*fitting, 'none of the common GPUs'][0]}"])


def largest_batch(total_of: Callable[[int], int], limit: int, sentences: int) -> int:
    """Find the most sentences that fit, to within 2 %; 0 if not even one fits.

    Args:
        total_of: bytes for a number of sentences.
        limit: available bytes.
        sentences: where to begin.
    """
    fits, breaks = 0, sentences
    while total_of(breaks) <= limit:
        fits, breaks = breaks, 2 * breaks
    tried = range(fits, breaks, max(1, fits // 50))
    return tried[bisect_right(tried, limit, lo=1, key=total_of) - 1]


def draw(args: Namespace, rest: list[str]) -> None:
    """Plan the figure's points, print them as a table and draw them; a wrong option raises an
    :class:`InputError` before anything is printed or written."""
    path, dims = Path(args.figure), args.hidden_dims or HIDDEN_DIMS
    length = args.length or LENGTH
    check_output(path, [], "--figure")
    if path.suffix[1:] not in FIGURE_FORMATS:
        raise InputError(f"--figure {path}: expected a suffix of {', '.join(FIGURE_FORMATS)}")
    cfgs = {}
    for d in dims:
        heads = 4 if d % 48 else 8  # 8 must divide d / 2 and d / 3
        size = f"--hidden-dim {d} --attention-heads {heads} --embed-dim 256 --share-all-embeddings"
        for name, arch in CURVES.items():
            cfgs[name, d] = training_config(arch, [*size.split(), *rest])
            count_parameters(cfgs[name, d], args.vocabulary)  # refuses options that do not fit
    sentences = max(1, args.max_tokens // length)
    curves: dict[str, list[int]] = {name: [] for name in CURVES}
    print("|", " | ".join(["hidden size", *(f"{name} (GB)" for name in CURVES)]), "|")
    print("|---" * (1 + len(CURVES)) + "|", flush=True)
    for d in dims:
        for name, totals in curves.items():
            plan = plan_memory(cfgs[name, d], args.vocabulary, sentences, length)
            totals.append(plan.total)
        row = " | ".join(f"{totals[-1] / 1e9:.2f}" for totals in curves.values())
        print(f"| {d} | {row} |", flush=True)
    limits = {name: capacity(name) for name in ("V100-16GB", "V100-32GB", "A100-80GB")}
    with replacing(path, "--figure") as temporary:
        save(memory_figure(dims, curves, limits), temporary, path.suffix[1:])
    print(f"wrote {path}")


def main(args: Namespace, rest: list[str]) -> None:
    """Plan and report; a wrong option raises an :class:`InputError`."""
    if (args.arch is None) == (args.figure is None):
        raise InputError("--arch or --figure: give one of them")
    if args.figure is not None:
        if args.gpu is not None:
            raise InputError(f"--gpu is {args.gpu}: it goes with --arch, not with --figure")
        return draw(args, rest)
    if args.hidden_dims is not None:
        raise InputError("--hidden-dims goes with --figure; that of an --arch is --hidden-dim")
    limit = None if args.gpu is None else capacity(args.gpu)
    cfg = training_config(args.arch, ["--max-tokens", str(args.max_tokens), *rest])
    window = cfg.task.get("tokens_per_sample", LENGTH)
    length = args.length or min(window, args.max_tokens)
    sentences = max(1, args.max_tokens // length)
    plan = plan_memory(cfg, args.vocabulary, sentences, length)
    print(report(plan, sentences * length))
    if limit is not None:

        def total_of(sentences: int) -> int:
            total = plan_memory(cfg, args.vocabulary, sentences, length).total
            print(f"  {sentences * length} tokens: {total / 1e9:.3f} GB", flush=True)
            return total

        most = largest_batch(total_of, limit, sentences)
        print(f"largest batch for {args.gpu}: {most * length} tokens ({most} sentences)")


def cli_main() -> None:
    run_command(get_parser(), main, others=True)


if __name__ == "__main__":
    cli_main()
