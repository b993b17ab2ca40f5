"""Compares two reversible streams with public libraries: memory, time and gradient error.

usage: pip install --no-deps memcnn==1.5.2 revlib==1.7.2 revtorch==0.2.4
       python examples/benchmark/libraries.py [--layers N] [--width d] [--tokens N] [--rounds N]

All have the same sub-networks: attention and feed-forward with residual, norm and dropout, in
float32. The error is relative, over the gradients of all weights; the reference is ordinary
autograd in float64 with the dropout masks of the forward pass.
"""

from __future__ import annotations

import argparse
import copy
from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from measuring import device, machine, print_table, times
from torch import Tensor, nn

from fairseq_dartsformer.memory.measurement import measured_peak
from fairseq_dartsformer.operations import Context
from fairseq_dartsformer.reversible import ReversibleLayer, ReversibleStack
from fairseq_dartsformer.search_space.mixed_op import MixedOp

DROPOUT = 0.1


class Dropout(nn.Module):
    """Dropout that can record its masks, or take given ones."""

    taken: list[Tensor] | None = None
    given: list[Tensor] | None = None

    def forward(self, x: Tensor) -> Tensor:
        if Dropout.given is not None:
            return x * Dropout.given.pop(0).to(x.dtype)
        if Dropout.taken is None:
            return F.dropout(x, DROPOUT)
        mask = F.dropout(torch.ones_like(x), DROPOUT)
        Dropout.taken.append(mask)
        return x * mask


class SubNetwork(nn.Module):
    """`LayerNorm(h + dropout(o(h)))` of `T × B × C`."""

    def __init__(self, width: int):
        super().__init__()
        self.dropout = Dropout()
        self.norm = nn.LayerNorm(width)

    def forward(self, h: Tensor, context=None) -> Tensor:
        return self.norm(h + self.dropout(self.operation(h)))


class Attention(SubNetwork):
    def __init__(self, width: int):
        super().__init__(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def operation(self, h: Tensor) -> Tensor:
        q, k, v = self.qkv(h).unflatten(-1, (3, 8, -1)).permute(2, 1, 3, 0, 4)
        return self.out(F.scaled_dot_product_attention(q, k, v).permute(2, 0, 1, 3).flatten(2))


class FeedForward(SubNetwork):
    def __init__(self, width: int):
        super().__init__(width)
        self.inner, self.outer = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def operation(self, h: Tensor) -> Tensor:
        return self.outer(F.relu(self.inner(h)))


class Plain(nn.Module):
    """The reference: ordinary autograd."""

    def __init__(self, pairs: list[tuple[SubNetwork, SubNetwork]]):
        super().__init__()
        self.pairs = nn.ModuleList(nn.ModuleList(pair) for pair in pairs)

    def forward(self, x: Tensor) -> Tensor:
        a, b = x.chunk(2, dim=-1)
        for f, g in self.pairs:
            a = a + f(b)
            b = b + g(a)
        return torch.cat([a, b], dim=-1)


class Ours(nn.Module):
    def __init__(self, pairs: list[tuple[SubNetwork, SubNetwork]]):
        super().__init__()
        layers = [ReversibleLayer([MixedOp([f]), MixedOp([g])], "max") for f, g in pairs]
        self.stack = ReversibleStack(layers, "reconstruct")

    def forward(self, x: Tensor) -> Tensor:
        return self.stack(x, None, Context())


def memcnn(pairs: list[tuple[SubNetwork, SubNetwork]]) -> nn.Module:
    from memcnn import AdditiveCoupling, InvertibleModuleWrapper

    couplings = (AdditiveCoupling(f, g, split_dim=2) for f, g in pairs)
    return nn.Sequential(
        *(InvertibleModuleWrapper(c, keep_input=False, preserve_rng_state=True) for c in couplings)
    )


def revlib(pairs: list[tuple[SubNetwork, SubNetwork]]) -> nn.Module:
    from revlib import ReversibleSequential

    return ReversibleSequential(*(network for pair in pairs for network in pair), split_dim=-1)


def revtorch(pairs: list[tuple[SubNetwork, SubNetwork]]) -> nn.Module:
    from revtorch import ReversibleBlock, ReversibleSequence

    blocks = (ReversibleBlock(f, g, split_along_dim=2, fix_random_seed=True) for f, g in pairs)
    return ReversibleSequence(nn.ModuleList(blocks))


LIBRARIES: dict[str, Callable[[list[tuple[SubNetwork, SubNetwork]]], nn.Module]] = {
    "ordinary autograd": Plain,
    "this project": Ours,
    "memcnn": memcnn,
    "revlib": revlib,
    "RevTorch": revtorch,
}


def update(model: nn.Module, x: Tensor, pairs: list[tuple[SubNetwork, SubNetwork]]) -> None:
    for pair in pairs:
        for network in pair:
            network.zero_grad()
    # Not a leaf: some libraries modify their input in place.
    model(x.clone().requires_grad_() * 1.0).square().mean().backward()


def gradients(pairs: list[tuple[SubNetwork, SubNetwork]]) -> list[Tensor]:
    return [p.grad.double() for pair in pairs for network in pair for p in network.parameters()]


def error(model: nn.Module, x: Tensor, pairs: list[tuple[SubNetwork, SubNetwork]]) -> float:
    """Relative error of the gradient for the masks that the forward pass drew."""
    Dropout.taken = []
    update(model, x, pairs)
    masks, Dropout.taken = Dropout.taken[: 2 * len(pairs)], None
    found = gradients(pairs)
    exact = copy.deepcopy([tuple(network.double() for network in pair) for pair in pairs])
    for pair in pairs:
        for network in pair:
            network.float()
    Dropout.given = masks
    update(Plain(exact), x.double(), exact)
    Dropout.given = None
    wanted = gradients(exact)
    difference = sum((a - b).square().sum() for a, b in zip(found, wanted, strict=True))
    return float((difference / sum(g.square().sum() for g in wanted)).sqrt())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--tokens", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    where, half = device(), args.width // 2
    x = torch.randn(50, args.tokens // 50, args.width, device=where)
    models, networks = {}, {}
    for name, build in LIBRARIES.items():
        torch.manual_seed(0)
        pairs = [
            (Attention(half).to(where), FeedForward(half).to(where)) for _ in range(args.layers)
        ]
        try:
            models[name] = build(pairs).train()
        except ImportError as missing:
            print(f"{name} is skipped: {missing}")
            continue
        networks[name] = pairs
    print(machine())
    print(f"{args.layers} layers of width {args.width}, {args.tokens} tokens, float32\n")
    steps = {name: partial(update, model, x, networks[name]) for name, model in models.items()}
    seconds = times(steps, args.rounds)
    rows = []
    for name, model in models.items():
        for pair in networks[name]:
            for network in pair:
                network.zero_grad()
        peak = measured_peak(steps[name], where)
        peak -= sum(g.nbytes // 2 for g in gradients(networks[name]))
        ratio = seconds[name] / seconds["ordinary autograd"]
        rows.append([name, seconds[name], ratio, peak / 1e6, error(model, x, networks[name])])
    print_table(
        [
            "",
            "seconds",
            "ratio to autograd",
            "peak beyond gradients (MB)",
            "gradient error",
        ],
        rows,
    )


if __name__ == "__main__":
    main()
