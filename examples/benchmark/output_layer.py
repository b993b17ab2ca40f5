"""Compares the chunked output layer and loss with complete logits: time and peak memory.

usage: python examples/benchmark/output_layer.py [--tokens N] [--vocabulary V] [--dim e] [--dtype D]
"""

import argparse

import torch
import torch.nn.functional as F
from fairseq.criterions.label_smoothed_cross_entropy import label_smoothed_nll_loss
from measuring import device, machine, print_table, times

import fairseq_dartsformer  # noqa: F401
from fairseq_dartsformer.criterions.linear_cross_entropy import smoothed_cross_entropy
from fairseq_dartsformer.memory.measurement import measured_peak

SMOOTHING = 0.1


def complete(x, weight, target):
    """As in fairseq's `label_smoothed_cross_entropy`."""
    log_p = F.linear(x, weight).log_softmax(-1, dtype=torch.float32)
    return label_smoothed_nll_loss(log_p, target, SMOOTHING, ignore_index=1)[0]


def chunked(x, weight, target):
    return smoothed_cross_entropy(x, weight, None, target, SMOOTHING, padding=1)[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tokens", type=int, default=5000)
    parser.add_argument("--vocabulary", type=int, default=32768)
    parser.add_argument("--dim", type=int, default=256)
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    torch.manual_seed(0)
    dtype, where = getattr(torch, args.dtype), device()
    x = torch.randn(args.tokens, args.dim, dtype=dtype, device=where)
    weight = torch.randn(args.vocabulary, args.dim, device=where).mul_(args.dim**-0.5).to(dtype)
    target = torch.randint(2, args.vocabulary, (args.tokens,), device=where)

    def step(loss):
        inputs = [t.clone().requires_grad_() for t in (x, weight)]
        loss(*inputs, target).backward()

    steps = {"complete": lambda: step(complete), "chunked": lambda: step(chunked)}
    seconds = times(steps, args.rounds)
    peak = {name: measured_peak(step, where) for name, step in steps.items()}
    print(f"{args.tokens} tokens, {args.vocabulary} symbols, e {args.dim}, {args.dtype}")
    print(machine(), end="\n\n")
    print_table(
        ["", "seconds", "time ratio", "peak in MB", "memory ratio"],
        (
            [name, s, s / seconds["complete"], peak[name] / 1e6, peak[name] / peak["complete"]]
            for name, s in seconds.items()
        ),
    )


if __name__ == "__main__":
    main()
