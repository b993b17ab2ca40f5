"""Penalties on alpha, for ``--arch-penalty NAME:WEIGHT[,NAME:WEIGHT]``.

A penalty is a function of alpha alone. Its gradient, times the weight, is added to alpha's after
the loss's has been averaged and clipped; it is therefore the same on all workers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot
from torch.utils.flop_counter import FlopCounterMode

from ..errors import InputError, flag
from ..operations import Context
from ..search_space.latency_table import LatencyTable, network_of
from ..search_space.relaxation import concentration
from ..search_space.sampling import best_of_stack, searched_node, searched_stacks

LENGTH = 20  # tokens of the sentence whose FLOPs are counted

# The searched encoder and decoder by name, and the share of the search that is done, on demand.
Penalty = Callable[[Mapping[str, nn.Module], Callable[[], float]], Tensor]


def beta(coders: Mapping[str, nn.Module], progress: Callable[[], float]) -> Tensor:
    """`t/T · mean(logsumexp(alpha))` over the nodes (beta-DARTS, 2203.01665)."""
    found = [coder.scores.logsumexp(-1).flatten() for coder in coders.values()]
    return progress() * torch.cat(found).mean()


def proximity(coders: Mapping[str, nn.Module], progress: Callable[[], float]) -> Tensor:
    """`t/T · sum ½ ‖W - disc(W)‖`, a norm for each stack (DARTS-PRIME, 2106.11655).

    `disc` keeps the largest mixing weight of a node as 1 and makes the others 0.
    """
    distances = []
    for coder in coders.values():
        weights = coder.mixing_weights()
        distances.append((weights - discretised(weights)).norm())
    return progress() * sum(distances) / 2


def flat_dirichlet(coders: Mapping[str, nn.Module], progress: Callable[[], float]) -> Tensor:
    """KL divergence of DrNAS's Dirichlet distributions from the flat one, summed over the nodes
    (2006.10355)."""
    found = []
    for coder in coders.values():
        remaining, c = coder.remaining, concentration(coder.alpha)
        total = c.masked_fill(~remaining, 0).sum(-1)
        terms = (c - 1) * (c.digamma() - total.digamma().unsqueeze(-1)) - c.lgamma()
        counts = remaining.sum(-1).to(c)
        divergence = total.lgamma() - counts.lgamma() + terms.masked_fill(~remaining, 0).sum(-1)
        found.append(divergence.sum())
    return sum(found)


def expected_cost(
    cost: Callable[[nn.Module, nn.Module], float],
    coders: Mapping[str, nn.Module],
    progress: Callable[[], float],
) -> Tensor:
    """`ln(sum of W · cost)` over all nodes and candidates of a block (SNAS, 1812.09926), see
    :func:`shares`."""
    total = 0.0
    for coder in coders.values():
        total = total + (shares(coder) * costs(coder, cost)).sum()
    return total.clamp_min(1.0).log()


def parameters(operation: nn.Module, coder: nn.Module) -> float:
    """Number of an operation's parameters."""
    return float(sum(p.numel() for p in operation.parameters()))


def flops(operation: nn.Module, coder: nn.Module) -> float:
    """FLOPs of an operation's matrix products, convolutions and attention for one sentence."""
    weight = next(operation.parameters(), None)
    if weight is None:
        return 0.0
    width, wide = operation.layer_norm.normalized_shape[0], coder.layer_norm.normalized_shape[0]
    like = {"dtype": weight.dtype, "device": weight.device}
    context = Context(encoder_out=torch.zeros(LENGTH, 1, wide, **like))
    training = operation.training
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        operation.eval()(torch.zeros(LENGTH, 1, width, **like), context)
    operation.train(training)
    return float(counter.get_total_flops())


def shares(coder: nn.Module, exclude: Collection[str] = ()) -> Tensor:
    """Return W with a sum of 1 in each node, which clamped weights do not have by themselves.

    Candidates in ``exclude`` have no share, unless a node has no other weight.
    """
    weights = coder.mixing_weights()
    excluded = [name in exclude for name in searched_node(coder).names]
    allowed = weights.masked_fill(torch.tensor(excluded, device=weights.device), 0)
    weights = torch.where(allowed.sum(-1, keepdim=True) > 0, allowed, weights)
    return weights / weights.sum(-1, keepdim=True).clamp_min(torch.finfo(weights.dtype).eps)


def costs(coder: nn.Module, cost: Callable[[nn.Module, nn.Module], float]) -> Tensor:
    """Return each candidate's cost, computed once for a stack."""
    kept = coder.__dict__.setdefault("costs", {})
    if cost not in kept:
        kept[cost] = torch.tensor([cost(operation, coder) for operation in searched_node(coder)])
    return kept[cost].to(coder.alpha.device)


def discretised(weights: Tensor) -> Tensor:
    """1 for each node's largest weight, 0 for the others."""
    return torch.zeros_like(weights).scatter(-1, weights.argmax(-1, keepdim=True), 1.0)


class LatencyDeviation:
    """`|D / target - 1|`, with the gradient of `|E / target - 1|` on the same side of the target.

    D is the latency of the genotype that would be derived now, `E = fixed + sum over layers, nodes
    and candidates that can be derived of W · latency`, see :func:`shares`: as long as W is far from
    one-hot, E says little about D. The absolute value is that of TuNAS (2008.06120); searches with
    a one-sided `relu(E / target - 1)`, like that of UNAS (1912.07651), end well below the target.

    Args:
        table: the latencies.
        target: in milliseconds.
        exclude: names of candidates that are not derived.
    """

    def __init__(self, table: LatencyTable, target: float, exclude: Collection[str] = ()):
        self.table, self.target, self.exclude = table, target, exclude

    def check(self, supernet: nn.Module, options: Mapping[str, Any]) -> None:
        """Check that the table is of the supernet, and that the target is neither below the fastest
        architecture that can be derived nor above the slowest.

        Args:
            supernet: the model.
            options: the model's.

        Raises:
            InputError: it is not so, or the table lacks a candidate.
        """
        symbols = len(supernet.decoder.dictionary)
        self.table.check(network_of(options, supernet.FAMILY.name), symbols)
        fastest = slowest = sum(self.table.fixed.values())
        for stack, coder in searched_stacks(supernet).items():
            layers, nodes, _ = coder.alpha.shape
            costs = dict(zip(searched_node(coder).names, self.costs(stack, coder), strict=True))
            derivable = [costs[name] for name in {*costs} - {*self.exclude}]
            fastest += layers * nodes * min(derivable)
            slowest += layers * nodes * max(derivable)
        if not fastest <= self.target <= slowest:
            raise InputError(
                f"--latency-target is {self.target:g}, but the architectures take from "
                f"{fastest:.4g} to {slowest:.4g} ms"
            )

    def costs(self, stack: str, coder: nn.Module) -> list[float]:
        """Return the milliseconds of each candidate as a node of the block."""
        return self.table.costs(stack, searched_node(coder).names, len(coder.alpha))

    def expected(self, coders: Mapping[str, nn.Module]) -> Tensor:
        """Return E in milliseconds, given the searched encoder and decoder."""
        return self._total(coders, lambda coder: shares(coder, self.exclude))

    def derived(self, coders: Mapping[str, nn.Module]) -> Tensor:
        """Return D in milliseconds, given the searched encoder and decoder."""
        return self._total(coders, self._choice)

    def __call__(self, coders: Mapping[str, nn.Module], progress: Callable[[], float]) -> Tensor:
        """Return the penalty, see :data:`Penalty`."""
        expected = self.expected(coders)
        derived = self.derived(coders) + expected - expected.detach()
        return (derived / self.target - 1).abs()

    def _choice(self, coder: nn.Module) -> Tensor:
        return one_hot(best_of_stack(coder, self.exclude), coder.alpha.size(-1)).to(coder.alpha)

    def _total(
        self, coders: Mapping[str, nn.Module], weigh: Callable[[nn.Module], Tensor]
    ) -> Tensor:
        total = sum(self.table.fixed.values())
        for stack, coder in coders.items():
            weights = weigh(coder)
            total = total + (weights * weights.new_tensor(self.costs(stack, coder))).sum()
        return total


LATENCY_OPTIONS = ("latency_table", "latency_target")
SCHEDULED = (beta, proximity)  # grow over the search, whose length they need
PENALTIES: dict[str, Penalty] = {
    "beta": beta,
    "proximity": proximity,
    "flat_dirichlet": flat_dirichlet,
    "parameters": partial(expected_cost, parameters),
    "flops": partial(expected_cost, flops),
}
NAMES = (*PENALTIES, "latency")


def build_penalties(
    cfg: Mapping[str, Any], exclude: Collection[str] = ()
) -> list[tuple[float, Penalty]]:
    """Read ``--arch-penalty``, and the options of its latency.

    Args:
        cfg: the task's options.
        exclude: names of candidates that are not derived.

    Raises:
        InputError: a name is unknown or given twice, a weight is no finite number, or the table of
            latencies or the target is missing, wrong or not needed.
    """
    found: dict[str, tuple[float, Penalty]] = {}
    for part in filter(None, map(str.strip, (cfg["arch_penalty"] or "").split(","))):
        name, _, number = part.partition(":")
        try:
            weight = float(number)
        except ValueError:
            weight = math.nan
        if name not in NAMES or name in found or not math.isfinite(weight):
            raise InputError(
                f"--arch-penalty: {part!r} must be NAME:WEIGHT with a name that is given once, of "
                f"{', '.join(NAMES)}, and a finite number"
            )
        penalty = _latency_deviation(cfg, exclude) if name == "latency" else PENALTIES[name]
        found[name] = (weight, penalty)
    for option in LATENCY_OPTIONS:
        if cfg[option] is not None and "latency" not in found:
            raise InputError(f"{flag(option)} is {cfg[option]}: it needs --arch-penalty latency:X")
    return list(found.values())


def _latency_deviation(cfg: Mapping[str, Any], exclude: Collection[str]) -> LatencyDeviation:
    for option in LATENCY_OPTIONS:
        if cfg[option] is None:
            raise InputError(f"{flag(option)} is missing: --arch-penalty latency needs it")
    target = cfg["latency_target"]
    if not 0 < target < math.inf:
        raise InputError(f"--latency-target is {target}, it must be a positive number")
    return LatencyDeviation(LatencyTable.load(cfg["latency_table"]), target, exclude)


def penalty_gradients(
    penalties: Sequence[tuple[float, Penalty]],
    coders: Mapping[str, nn.Module],
    progress: Callable[[], float],
) -> tuple[Tensor, ...]:
    """Return the gradients of the weighted sum of penalties with respect to alpha, by stack."""
    with torch.enable_grad():
        total = sum(weight * penalty(coders, progress) for weight, penalty in penalties)
        return torch.autograd.grad(total, [coder.alpha for coder in coders.values()])
