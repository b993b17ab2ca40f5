"""Compares ways to compute a search update, of weights and of alpha.

usage: python examples/benchmark/search_update.py [--hidden-dims 120 240 ...] [--sentences N] ...

reconstruct  this project's default
store        the same network by ordinary autograd: one level's gradients at a time, our operations
checkpoint   like store, with `torch.utils.checkpoint` around every layer
public       the same network as public code for DARTS runs it: everything stored, weight gradients
             in updates of alpha too, fairseq's modules for the candidates, complete logits
"""

from __future__ import annotations

import argparse
from contextlib import nullcontext
from functools import partial
from unittest import mock

import public_operations
import torch
from measuring import device, machine, print_table, times
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from fairseq_dartsformer.memory.measurement import measured_peak
from fairseq_dartsformer.memory.planner import Training, training_config
from fairseq_dartsformer.models import blocks
from fairseq_dartsformer.reversible import ReversibleStack
from fairseq_dartsformer.search_space.levels import LEVELS, gradients_for

KINDS = ("reconstruct", "store", "checkpoint", "public")
EMBED_DIMS = {120: 128, 240: 128, 480: 256, 960: 256}  # as in Table 5


class CheckpointedStack(ReversibleStack):
    """Stores every layer's input and recomputes the layer in the backward pass."""

    def forward(self, x, weights, context, **state) -> Tensor:
        for i, layer in enumerate(self.layers):
            x = checkpoint(layer, x, weights[i % len(weights)], context, use_reentrant=False)
        return x


class Search:
    """A supernet and a batch for it.

    Args:
        kind: one of :data:`KINDS`.
        args: sizes.
        hidden_dim: d.
    """

    def __init__(self, kind: str, args: argparse.Namespace, hidden_dim: int):
        self.public = kind == "public"
        cfg = training_config(
            "dartsformer_search",
            f"--hidden-dim {hidden_dim} --embed-dim {EMBED_DIMS.get(hidden_dim, 256)} "
            f"--attention-heads {4 if hidden_dim < 240 else 8} --share-all-embeddings "
            f"--encoder-layers {args.layers} --decoder-layers {args.layers} "
            f"--backprop {'reconstruct' if kind == 'reconstruct' else 'store'} "
            f"--criterion {'' if self.public else 'chunked_'}label_smoothed_cross_entropy".split(),
        )
        torch.manual_seed(0)
        build = public_operations.build_operation if self.public else blocks.build_operation
        with mock.patch.object(blocks, "build_operation", build):
            training = Training(cfg, args.vocabulary)
        self.model, self.criterion = training.model.to(device()).train(), training.criterion
        if kind == "checkpoint":
            for stack in (self.model.encoder.stack, self.model.decoder.stack):
                stack.__class__ = CheckpointedStack
        self.sample = training.batch(None, args.sentences, args.length)

    def update(self, level: str) -> None:
        """Forward and backward pass of ``level``, without the optimizer's step."""
        self.model.zero_grad()
        with nullcontext() if self.public else gradients_for(self.model, [level]):
            loss, *_ = self.criterion(self.model, self.sample)
            loss.backward()

    def peak(self) -> int:
        """Peak bytes beyond parameters and gradients, of the level that takes more."""
        peaks = []
        for level in LEVELS:
            self.model.zero_grad()
            peak = measured_peak(partial(self.update, level), device())
            gradients = (p.grad for p in self.model.parameters() if p.grad is not None)
            peaks.append(peak - sum(g.nbytes for g in gradients))
        self.model.zero_grad()
        return max(peaks)


def count(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


def add_sizes(parser: argparse.ArgumentParser) -> None:
    """Add the sizes of :class:`Search` except the hidden size."""
    parser.add_argument("--layers", type=int, default=6)
    parser.add_argument("--sentences", type=int, default=100)
    parser.add_argument("--length", type=int, default=50)
    parser.add_argument("--vocabulary", type=int, default=32768)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--hidden-dims", type=int, nargs="+", default=[120, 240, 480, 960])
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS)
    add_sizes(parser)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    print(machine())
    print(f"{args.sentences} sentence pairs of {args.length} tokens, {args.layers} layers a side")
    for hidden_dim in args.hidden_dims:
        searches = {kind: Search(kind, args, hidden_dim) for kind in args.kinds}
        (size, *_) = (count(search.model) for search in searches.values())
        steps = {
            (kind, level): partial(search.update, level)
            for kind, search in searches.items()
            for level in LEVELS
        }
        seconds = times(steps, args.rounds)
        print(f"\nd = {hidden_dim}, {size / 1e6:.1f}M parameters\n")
        rows = []
        for kind, search in searches.items():
            each = [seconds[kind, level] for level in LEVELS]
            tokens = len(LEVELS) * search.sample["ntokens"] / sum(each)
            reference = [seconds.get(("store", level), float("nan")) for level in LEVELS]
            ratios = [own / other for own, other in zip(each, reference, strict=True)]
            pair = sum(each) / sum(reference)
            rows.append([kind, *each, tokens, *ratios, pair, search.peak() / 1e6])
        print_table(
            ["", "weights (s)", "alpha (s)", "tokens/s"]
            + [f"{name} / store" for name in ("weights", "alpha", "pair")]
            + ["peak beyond parameters and gradients (MB)"],
            rows,
        )


if __name__ == "__main__":
    main()
