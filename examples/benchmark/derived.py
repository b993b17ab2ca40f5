"""Compares the derived model with fairseq's transformer of equal size: training, decoding, memory.

usage: python examples/benchmark/derived.py [--genotype G] [--sentences N] [--length N] [--fp16] ...

Weights are random, so decoding (beam 5) produces sentences of a fixed length. Both use the chunked
criterion.
"""

from __future__ import annotations

import argparse

import torch
from fairseq.sequence_generator import SequenceGenerator
from measuring import device, machine, print_table, times

from fairseq_dartsformer.memory.measurement import measured_peak
from fairseq_dartsformer.memory.planner import Training, training_config

# As many parameters as the base size with paper_fig4_approx.
TRANSFORMER = (
    "--encoder-embed-dim 512 --decoder-embed-dim 512 "
    "--encoder-ffn-embed-dim 2376 --decoder-ffn-embed-dim 2376 "
    "--encoder-attention-heads 8 --decoder-attention-heads 8"
)


class Model:
    """A model and a batch for it."""

    def __init__(self, arch: str, options: str, args: argparse.Namespace):
        options += " --share-all-embeddings" + " --fp16" * args.fp16
        torch.manual_seed(0)
        training = Training(training_config(arch, options.split()), args.vocabulary)
        self.dictionary = training.task.target_dictionary
        self.model = training.model.to(device())
        self.criterion = training.criterion
        self.sample = training.batch(None, args.sentences, args.length)
        self.length = args.length

    def train(self) -> None:
        self.model.train().zero_grad()
        loss, *_ = self.criterion(self.model, self.sample)
        loss.backward()

    @torch.no_grad()
    def decode(self) -> None:
        self.model.eval()
        generator = SequenceGenerator(
            [self.model],
            self.dictionary,
            beam_size=5,
            max_len_a=0,
            max_len_b=self.length,
            min_len=self.length - 1,
        )
        generator.generate([self.model], self.sample)

    def peak(self) -> int:
        """Peak bytes of a training update beyond parameters and gradients."""
        self.model.zero_grad()
        peak = measured_peak(self.train, device())
        return peak - sum(p.grad.nbytes for p in self.model.parameters())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--genotype", default="paper_fig4_approx")
    parser.add_argument("--sentences", type=int, default=20)
    parser.add_argument("--length", type=int, default=30)
    parser.add_argument("--vocabulary", type=int, default=32768)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--fp16", action="store_true")
    args = parser.parse_args()
    compared = {
        "transformer": Model("transformer", TRANSFORMER, args),
        "derived": Model("dartsformer", f"--genotype {args.genotype}", args),
    }
    print(machine())
    print(f"{args.sentences} sentences of {args.length} tokens, genotype {args.genotype}\n")
    training = times({name: m.train for name, m in compared.items()}, args.rounds)
    decoding = times({name: m.decode for name, m in compared.items()}, args.rounds)
    tokens = args.sentences * args.length
    print_table(
        [
            *("", "parameters (M)", "training tokens/s", "ratio", "decoding sentences/s", "ratio"),
            "training peak beyond parameters and gradients (MB)",
        ],
        (
            [
                name,
                sum(p.numel() for p in model.model.parameters()) / 1e6,
                tokens / training[name],
                training["transformer"] / training[name],
                args.sentences / decoding[name],
                decoding["transformer"] / decoding[name],
                model.peak() / 1e6,
            ]
            for name, model in compared.items()
        ),
    )


if __name__ == "__main__":
    main()
