"""Compares the hypergradient of `idarts` with that of exact products with the Hessian.

usage: python examples/benchmark/hypergradient.py [--radii R ...] [--rate RATE] ...

All compute the same truncated Neumann series on a small supernet, with the same dropout masks:

exact      by differentiating twice, in float64, with stored activations
float64    `idarts`: by finite differences, else as *exact*
float32    `idarts` as a search runs it: by finite differences, with reconstruction
"""

from __future__ import annotations

import argparse
from unittest import mock

import torch
import torch.nn.functional as F
from measuring import machine, print_table
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from fairseq_dartsformer.memory.planner import Training, training_config
from fairseq_dartsformer.operations import convolution
from fairseq_dartsformer.reversible.coupling import POOLINGS
from fairseq_dartsformer.reversible.seeding import draw_seed, preserved_generators, seed_generators
from fairseq_dartsformer.search.alpha_strategy import loss_of, parameters_of
from fairseq_dartsformer.search.idarts import IDARTS
from fairseq_dartsformer.search_space.levels import LEVELS, WEIGHTS, gradients_for
from fairseq_dartsformer.search_space.sampling import chosen

LEARNING_RATE = 3e-3


class Exact(IDARTS):
    """The same series, by differentiating twice."""

    def product(self, module, train, update_num, direction, level=WEIGHTS) -> list[Tensor]:
        weights, seed = parameters_of(module, (WEIGHTS,)), draw_seed()
        (batch,) = train
        with preserved_generators(torch.device("cpu")), gradients_for(module, LEVELS):
            seed_generators(seed, torch.device("cpu"))
            with chosen(module, self.mixtures(module, LEVELS, update_num)):
                loss, size = self.loss(module, batch)
            grads = torch.autograd.grad(loss / size, weights, create_graph=True)
            along = sum((g * v).sum() for g, v in zip(grads, direction, strict=True))
            return list(torch.autograd.grad(along, parameters_of(module, (level,))))


def dynamic_convolution(windows: Tensor, kernels: Tensor) -> Tensor:
    """The operation's convolution in functions that can be differentiated twice."""
    steps, _, heads, size = kernels.shape
    windows = windows.unflatten(-1, (heads, -1))
    parts = (windows[j : j + steps] * kernels[..., j : j + 1] for j in range(size))
    return sum(parts).flatten(-2)


class Search:
    """A supernet in float64 whose weights have learnt for some updates to copy random symbols."""

    def __init__(self, pooling: str, args: argparse.Namespace, seed: int):
        self.args = args
        options = (
            f"--embed-dim 8 --hidden-dim {args.hidden_dim} --attention-heads 2 --pooling {pooling} "
            f"--encoder-layers {args.layers} --decoder-layers {args.layers} --backprop store "
            f"--search-strategy idarts --neumann-terms {args.terms} --neumann-rate {args.rate} "
            "--criterion label_smoothed_cross_entropy --dropout 0.1 --max-tokens 1000 --cpu"
        )
        torch.manual_seed(seed)
        cfg = training_config("dartsformer_search", options.split())
        self.training = Training(cfg, args.vocabulary)
        self.model, self.criterion = self.training.model.double().train(), self.training.criterion
        self.train()
        self.single = Training(cfg, args.vocabulary).model.train()
        self.single.load_state_dict(self.model.state_dict())
        for coder in (self.single.encoder, self.single.decoder):
            coder.stack.backprop = "reconstruct"
        self.batches = [[self.batch()], [self.batch()]]

    def batch(self) -> dict:
        """Random symbols, and the same to be translated to."""
        batch = self.training.batch(None, self.args.sentences, self.args.length)
        shifted = batch["target"].roll(1, 1)
        shifted[:, 0] = self.training.task.target_dictionary.eos()
        batch["net_input"]["prev_output_tokens"] = shifted
        return batch

    def train(self) -> None:
        weights = parameters_of(self.model, (WEIGHTS,))
        optimizer = torch.optim.Adam(weights, LEARNING_RATE)
        with gradients_for(self.model, (WEIGHTS,)):
            for _ in range(self.args.updates):
                loss, size, _ = self.criterion(self.model, self.batch())
                optimizer.zero_grad()
                (loss / size).backward()
                optimizer.step()

    def hypergradient(
        self,
        kind: type[IDARTS],
        radius: float | None = None,
        single: bool = False,
        terms: bool = True,
    ) -> Tensor:
        """alpha's gradient in one vector of float64.

        Args:
            kind: the strategy that computes it.
            radius: of finite differences; by default the strategy's.
            single: in float32 with reconstruction.
            terms: whether the series counts; else the first-order gradient.
        """
        strategy = kind(self.training.task.cfg)
        strategy.loss = loss_of(self.criterion)
        strategy.radius = strategy.radius if radius is None else radius
        gradients = strategy.alpha_gradients
        if not terms:
            gradients = super(IDARTS, strategy).alpha_gradients
        torch.manual_seed(7)
        with (
            sdpa_kernel(SDPBackend.MATH),
            mock.patch.object(convolution, "dynamic_convolution", dynamic_convolution),
        ):
            found = gradients(self.single if single else self.model, *self.batches, update_num=0)
        return torch.cat([g.flatten() for g in found]).double()


def compare(search: Search, radii: list[float]) -> dict[float, list[float]]:
    """For each radius the cosines with the exact hypergradient: of the first-order gradient, and
    in float64 and float32 of the hypergradient and of its difference from first order."""
    exact = search.hypergradient(Exact)
    first = search.hypergradient(IDARTS, terms=False)
    found = {}
    for radius in radii:
        found[radius] = [cosine(first, exact)]
        for single in (False, True):
            ours = search.hypergradient(IDARTS, radius, single)
            own_first = search.hypergradient(IDARTS, single=single, terms=False)
            found[radius] += [cosine(ours, exact), cosine(ours - own_first, exact - first)]
    return found


def cosine(a: Tensor, b: Tensor) -> float:
    return float(F.cosine_similarity(a, b, dim=0))


def get_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--radii", type=float, nargs="+", default=[1.0, 0.3, 0.1, 0.03, 0.01, 0.001])
    add("--poolings", nargs="+", choices=POOLINGS, default=["avg", "max"])
    add("--seeds", type=int, default=3)
    add("--terms", type=int, default=2, help="K")
    add("--rate", type=float, default=0.01, help="η")
    add("--updates", type=int, default=200, help="of the weights before the comparison")
    add("--layers", type=int, default=2)
    add("--hidden-dim", type=int, default=24)
    add("--sentences", type=int, default=10)
    add("--length", type=int, default=8)
    add("--vocabulary", type=int, default=20)
    return parser


def main() -> None:
    args = get_parser().parse_args()
    print(machine())
    print(f"the smallest cosine of {args.seeds} seeds, K {args.terms}, η {args.rate:g}\n")
    rows = []
    for pooling in args.poolings:
        found = [compare(Search(pooling, args, s), args.radii) for s in range(args.seeds)]
        for radius in args.radii:
            worst = map(min, zip(*(cosines[radius] for cosines in found), strict=True))
            rows.append([pooling, radius, *(f"{value:.4f}" for value in worst)])
    header = ["pooling", "R", "first order", "float64", "without first order"]
    print_table([*header, "float32", "without first order"], rows)


if __name__ == "__main__":
    main()
