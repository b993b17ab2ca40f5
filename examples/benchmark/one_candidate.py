"""Compares an update in which one candidate a node runs with one of the derived model.

usage: python examples/benchmark/one_candidate.py [--hidden-dims 120 240 ...] [--rounds N] ...

The candidates are drawn from alpha, with a differentiable weight, as `dsnas`, `gdas` and `unas`
draw them; the derived model has the same architecture and sizes, and the same --backprop.
"""

from __future__ import annotations

import argparse

import torch
from measuring import device, machine, print_table, times
from search_update import EMBED_DIMS, add_sizes

from fairseq_dartsformer.memory.measurement import measured_peak
from fairseq_dartsformer.memory.planner import Training, training_config
from fairseq_dartsformer.reversible.stack import BACKPROPS
from fairseq_dartsformer.search.snapshot import take_snapshot
from fairseq_dartsformer.search_space.levels import LEVELS, gradients_for
from fairseq_dartsformer.search_space.relaxation import drawing, score_function
from fairseq_dartsformer.search_space.sampling import chosen, searched_stacks


class Update:
    """Forward and backward pass of both levels, without the optimizer's step."""

    def __init__(self, arch: str, args: argparse.Namespace, hidden_dim: int, *options: str):
        cfg = training_config(
            arch,
            f"--hidden-dim {hidden_dim} --embed-dim {EMBED_DIMS.get(hidden_dim, 256)} "
            f"--attention-heads {4 if hidden_dim < 240 else 8} --share-all-embeddings "
            f"--encoder-layers {args.layers} --decoder-layers {args.layers}".split()
            + list(options),
        )
        torch.manual_seed(0)
        training = Training(cfg, args.vocabulary)
        self.cfg, self.criterion = cfg, training.criterion
        self.model = training.model.to(device()).train()
        self.sample = training.batch(None, args.sentences, args.length)

    def mixtures(self) -> dict:
        """One candidate for each node, always the same; nothing in the derived model."""
        with drawing("benchmark"):
            coders = searched_stacks(self.model).items()
            return {stack: score_function(coder.alpha) for stack, coder in coders}

    def genotype(self) -> str:
        """Of :meth:`mixtures`."""
        tensors = self.model.state_dict()
        snapshot = take_snapshot(self.cfg.model, self.cfg.task, tensors, 0, "the supernet")
        choice = {s: [[o for (o,) in row] for row in m.active] for s, m in self.mixtures().items()}
        return snapshot.genotype(choice).to_json()

    def run(self) -> None:
        """An update."""
        self.model.zero_grad()
        with gradients_for(self.model, LEVELS), chosen(self.model, self.mixtures()):
            loss, *_ = self.criterion(self.model, self.sample)
            loss.backward()

    def peak(self) -> int:
        """Peak bytes beyond parameters and gradients."""
        self.model.zero_grad()
        peak = measured_peak(self.run, device())
        return peak - sum(p.grad.nbytes for p in self.model.parameters() if p.grad is not None)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--hidden-dims", type=int, nargs="+", default=[120, 240])
    add_sizes(parser)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    print(machine())
    print(f"{args.sentences} sentence pairs of {args.length} tokens, {args.layers} layers a side")
    rows = []
    for hidden_dim in args.hidden_dims:
        for backprop in BACKPROPS:
            options = ("--backprop", backprop)
            search = Update("dartsformer_search", args, hidden_dim, *options)
            genotype = ("--genotype", search.genotype())
            derived = Update("dartsformer", args, hidden_dim, *options, *genotype)
            updates = {"one candidate": search, "derived model": derived}
            seconds = times({name: u.run for name, u in updates.items()}, args.rounds)
            own, other = seconds.values()
            peaks = [update.peak() / 1e6 for update in updates.values()]
            rows.append([f"{hidden_dim}, {backprop}", own, other, own / other])
            rows[-1] += [*peaks, peaks[0] / peaks[1]]
    print()
    print_table(
        [
            *("d, --backprop", "one candidate (s)", "derived model (s)", "ratio"),
            *("one candidate (MB)", "derived model (MB)", "ratio"),
        ],
        rows,
    )


if __name__ == "__main__":
    main()
