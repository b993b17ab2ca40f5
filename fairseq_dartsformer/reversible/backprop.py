"""Backpropagation with reconstruction (Algorithm 1), one branch at a time.

A chain of autograd functions, one a layer, in which only the last keeps anything: the top output.
Beside the stream each function hands its low part and an empty token upwards; as the gradients of
these two its backward pass hands the reconstructed input down.

    x ── Layer 1 ── Layer 2 ── … ── Top ── y          forward: the stream
    dX, X ←─ dY, Y ←── dY, Y ←─ … ←── (Y) ←─ dY       backward: gradient and reconstruction

So no state is shared outside the graph (two forward passes may precede one backward), gradients of
weights that several layers share are summed by autograd itself, and each parameter's hook fires
once. The stream is a pair of high and low parts (see :mod:`.compensated`); the network sees the
high part.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from .compensated import accumulate
from .seeding import preserved_generators, seed_generators

if TYPE_CHECKING:
    from .coupling import ReversibleLayer


def reconstructing_forward(
    layers: Sequence[ReversibleLayer],
    x: Tensor,
    weights: Sequence[Tensor | None],
    context: NamedTuple,
    seeds: Sequence[int],
    reconstruction: Tensor | None = None,
) -> Tensor:
    """Run ``layers`` upon ``x`` and store the top output alone.

    Args:
        layers: reversible layers, from the bottom to the top.
        x: `T × B × d`.
        weights: for each layer its `m × candidates` mixing weights or ``None``.
        context: named tuple of tensors or ``None``; gradients flow to its tensors.
        seeds: for each layer that of its random numbers; the generators are left seeded.
        reconstruction: a leaf shaped like ``x``; its gradient will be ``x`` as reconstructed.

    Returns:
        Tensor `T × B × d`; gradients are those of ordinary autograd up to rounding.
    """
    low = _token(x)
    token = _token(x) if reconstruction is None else reconstruction
    for layer, row, seed in zip(layers, weights, seeds, strict=True):
        parameters = [p for node in layer.nodes for branch in node for p in branch.parameters()]
        x, low, token = _Layer.apply(
            layer, seed, type(context), x, low, token, row, *context, *parameters
        )
    return _Top.apply(x, low, token)


def _token(x: Tensor) -> Tensor:
    """Zeros that look like ``x`` and take the room of one number."""
    return x.new_zeros(()).expand(x.shape)


class _Top(torch.autograd.Function):
    """Keeps the top output and starts the chain of reconstructions with it."""

    @staticmethod
    def forward(ctx: Any, high: Tensor, low: Tensor, token: Tensor) -> Tensor:
        ctx.save_for_backward(high, low)
        return high.view_as(high)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        high, low = ctx.saved_tensors
        return grad_y, low, high


class _Layer(torch.autograd.Function):
    """One reversible layer: Eq. 3 forward, Algorithm 1 backward.

    Inputs after the token: the mixing weights, the context's tensors, every branch's parameters.
    """

    @staticmethod
    def forward(
        ctx: Any,
        layer: ReversibleLayer,
        seed: int,
        context_type: type,
        x: Tensor,
        low: Tensor,
        token: Tensor,
        weights: Tensor | None,
        *tensors: Tensor | None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        width = len(context_type._fields)
        context = context_type._make(tensors[:width])
        ctx.layer, ctx.seed, ctx.context_type = layer, seed, context_type
        ctx.autocast = _autocast_state(x.device)
        ctx.save_for_backward(weights, *tensors[:width])
        ctx.set_materialize_grads(False)

        splits, lows = (list(t.chunk(layer.splits, dim=-1)) for t in (x, low))
        with ctx.autocast():
            for k in range(layer.splits):
                others = splits[:k] + splits[k + 1 :]
                residual = layer.residual(k, others, weights, context, seed)
                splits[k], lows[k] = accumulate(splits[k], lows[k], residual)
        return torch.cat(splits, dim=-1), torch.cat(lows, dim=-1), _token(x)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_y: Tensor, low: Tensor, y: Tensor) -> tuple[Tensor | None, ...]:
        weights, *tensors = ctx.saved_tensors
        pass_ = _BackwardPass(ctx, weights, ctx.context_type._make(tensors))
        with preserved_generators(y.device), ctx.autocast():
            x, low, grad_x = pass_.run(y, low, grad_y)
        # The reconstruction goes down as the gradient of low part and token.
        return (None, None, None, grad_x, low, x, pass_.grad_weights, *pass_.grads)


class _BackwardPass:
    """Algorithm 1 for one layer.

    Args:
        ctx: the autograd context of the layer's forward pass.
        weights: `m × candidates` or ``None``.
        context: the branches' context.
    """

    def __init__(self, ctx: Any, weights: Tensor | None, context: NamedTuple):
        self.layer, self.seed = ctx.layer, ctx.seed
        self.weights = weights
        # In the order of the inputs of _Layer.forward.
        _, _, _, self.needs_x, _, _, self.needs_weights, *needs = ctx.needs_input_grad
        self.context = context._make(
            None if t is None else t.detach().requires_grad_(need)
            for t, need in zip(context, needs, strict=False)
        )
        self.grads: list[Tensor | None] = [None] * len(needs)
        self.grad_weights = torch.zeros_like(weights) if self.needs_weights else None
        self.indices = self._parameter_indices(len(context), needs)

    def _parameter_indices(self, start: int, needs: Sequence[bool]) -> dict[Any, dict[int, Tensor]]:
        """For each branch: which of its parameters take a gradient, by place in ``grads``."""
        indices: dict[Any, dict[int, Tensor]] = {}
        for node in self.layer.nodes:
            for branch in node:
                parameters = list(enumerate(branch.parameters(), start))
                indices[branch] = {i: p for i, p in parameters if needs[i]}
                start += len(parameters)
        return indices

    def run(self, y: Tensor, low: Tensor, grad_y: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """From ``Y``, its low part and its gradient to those of ``X``, for k = n..1."""
        n = self.layer.splits
        splits, lows, grads = (list(t.chunk(n, dim=-1)) for t in (y, low, grad_y))
        for k in reversed(range(n)):
            # Below k still Y_i, above k already X_i.
            others = [s.detach() for i, s in enumerate(splits) if i != k]
            # G_1 sees only X, whose gradient may not be wanted.
            needs_h = self.needs_x or k > 0
            with torch.enable_grad():
                others = [s.requires_grad_(needs_h) for s in others]
                h = self.layer.pool(others)
            seed_generators(self.seed + k, y.device)
            residual, grad_h = self._node(k, h.detach().requires_grad_(needs_h), grads[k])
            splits[k], lows[k] = accumulate(splits[k], lows[k], -residual)
            if grad_h is not None:
                grad_others = torch.autograd.grad(h, others, grad_h)
                rest = [i for i in range(n) if i != k]
                for i, grad in zip(rest, grad_others, strict=True):
                    grads[i] = grads[i] + grad
        grad_x = torch.cat(grads, dim=-1) if self.needs_x else None
        return torch.cat(splits, dim=-1), torch.cat(lows, dim=-1), grad_x

    def _node(self, k: int, h: Tensor, grad: Tensor) -> tuple[Tensor, Tensor | None]:
        """Recompute ``G_k(h)`` and backpropagate ``grad`` through it, branch by branch."""
        mixed = self.weights is not None and k < len(self.weights)
        total, grad_h = torch.zeros_like(h), None
        for o, branch in enumerate(self.layer.nodes[k]):
            with torch.enable_grad():
                out = branch(h, self.context).to(h.dtype)
            value = out.detach()
            total += self.weights[k, o] * value if mixed else value
            if mixed and self.needs_weights:
                self.grad_weights[k, o] = torch.sum(grad * value)
            if out.requires_grad:
                grad_out = self.weights[k, o] * grad if mixed else grad
                grad_branch = self._branch_grads(branch, out, h, grad_out)
                if grad_branch is not None:
                    grad_h = grad_branch if grad_h is None else grad_h.add_(grad_branch)
        return total.detach(), grad_h

    def _branch_grads(self, branch: Any, out: Tensor, h: Tensor, grad_out: Tensor) -> Tensor | None:
        """Add the gradients of parameters and context to ``grads``; return that of ``h``."""
        inputs = {i: t for i, t in enumerate(self.context) if t is not None and t.requires_grad}
        inputs |= self.indices[branch]
        if h.requires_grad:
            inputs[-1] = h
        found = torch.autograd.grad(out, list(inputs.values()), grad_out, allow_unused=True)
        grad_h = None
        for i, grad in zip(inputs, found, strict=True):
            if i == -1:
                grad_h = grad
            elif grad is not None:
                self.grads[i] = grad if self.grads[i] is None else self.grads[i] + grad
        return grad_h


def _autocast_state(device: torch.device):
    """A context manager factory that restores the autocast state of this moment."""
    kind = device.type
    enabled, dtype = torch.is_autocast_enabled(kind), torch.get_autocast_dtype(kind)

    @contextmanager
    def restored():
        # No cache: each weight is used once, and casts made without a graph must not be kept.
        with torch.autocast(kind, dtype=dtype, enabled=enabled, cache_enabled=False):
            yield

    return restored
