"""Backpropagation with reconstruction (Algorithm 1), one operation at a time.

A chain of autograd functions, one a layer, in which only the last keeps anything: the top output.
Two things go up and two come down. Values go up as the stream, beside an empty carrier; down come
the gradient, as the carrier's, and the reconstructed input, as the stream's.

    x ── Layer 1 ── Layer 2 ── … ── Top ── y          forward: the stream
    dX, X ←─ dY, Y ←── dY, Y ←─ … ←── (Y) ←─ dY       backward: gradient and reconstruction

So no state is shared outside the graph (two forward passes may precede one backward), gradients of
weights that several layers share are summed by autograd itself, and each parameter's hook fires
once.

The stream is one tensor, changed in place on the way up and back on the way down, and so is its
gradient on the way down. Split by split they are contiguous: `n × T × B × C`. The stream is in
float64, and the network sees it rounded to its own precision. A stream grows with depth, so that
`Y - G` in float32 loses the last digits of X, and what is lost is amplified layer by layer: 1e-4 of
X after 24 layers at initialisation. float64 keeps them at the cost of one wider sum.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from .coupling import ReversibleLayer
from .node import Mixture, by_node
from .seeding import preserved_generators, seed_generators


def reconstructing_forward(
    layers: Sequence[ReversibleLayer],
    x: Tensor,
    mixtures: Sequence[Mixture],
    context: NamedTuple,
    seeds: Sequence[int],
    reconstruction: Tensor | None = None,
) -> Tensor:
    """Run ``layers`` upon ``x`` and store the top output alone.

    Args:
        layers: reversible layers, from the bottom to the top.
        x: `T × B × d`.
        mixtures: for each layer what runs of its first m nodes: mixing weights `m × candidates`, or
            m indices, or ``None``.
        context: named tuple of tensors or ``None``; gradients flow to its tensors.
        seeds: for each layer that of its random numbers; the generators are left seeded.
        reconstruction: a leaf shaped like ``x``; its gradient will be ``x`` as reconstructed.

    Returns:
        Tensor `T × B × d`; gradients are those of ordinary autograd up to rounding.
    """
    splits = layers[0].splits
    carrier = torch.stack(x.chunk(splits, dim=-1))
    stream = carrier.detach().to(torch.float64)
    if reconstruction is not None:
        stream = stream + torch.stack(reconstruction.chunk(splits, dim=-1))
    for layer, mixture, seed in zip(layers, mixtures, seeds, strict=True):
        parameters = [
            parameter
            for node in active(layer, mixture)
            for operation, _ in node
            for parameter in operation.parameters()
        ]
        carrier, stream = _Layer.apply(
            layer, seed, type(context), carrier, stream, mixture, *context, *parameters
        )
    return _Top.apply(carrier, stream)


class _Top(torch.autograd.Function):
    """Keeps the top output and starts the chain of reconstructions with it."""

    @staticmethod
    def forward(ctx: Any, carrier: Tensor, stream: Tensor) -> Tensor:
        ctx.save_for_backward(stream)
        return torch.cat(stream.to(carrier.dtype).unbind(), dim=-1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor, Tensor]:
        (stream,) = ctx.saved_tensors
        # Copies, for they will change: saved tensors may be asked for again.
        return torch.stack(grad_y.chunk(len(stream), dim=-1)), stream.clone()


class _Layer(torch.autograd.Function):
    """One reversible layer: Eq. 3 forward, Algorithm 1 backward.

    Inputs after the stream: the mixture, the context's tensors, the parameters of every active
    operation.
    """

    @staticmethod
    def forward(
        ctx: Any,
        layer: ReversibleLayer,
        seed: int,
        context_type: type,
        carrier: Tensor,
        stream: Tensor,
        mixture: Mixture,
        *tensors: Tensor | None,
    ) -> tuple[Tensor, Tensor]:
        width = len(context_type._fields)
        context = context_type._make(tensors[:width])
        ctx.layer, ctx.seed, ctx.context_type = layer, seed, context_type
        ctx.autocast = _autocast_state(stream.device)
        weights, ctx.choice = (mixture, None) if isinstance(mixture, Tensor) else (None, mixture)
        # Parameters too: autograd then refuses those that were changed before the backward pass.
        ctx.save_for_backward(weights, *tensors)
        ctx.set_materialize_grads(False)

        ctx.mark_dirty(stream)
        with ctx.autocast():
            for k, running in enumerate(by_node(mixture, layer.splits)):
                others = _others(stream, k, carrier.dtype)
                stream[k].add_(layer.residual(k, others, running, context, seed))
        # Looks like the stream and takes the room of one number.
        return carrier.new_zeros(()).expand(carrier.shape), stream

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_y: Tensor, y: Tensor) -> tuple[Tensor | None, ...]:
        weights, *tensors = ctx.saved_tensors
        context = ctx.context_type._make(tensors[: len(ctx.context_type._fields)])
        pass_ = _BackwardPass(ctx, weights, context)
        with preserved_generators(y.device):
            pass_.run(y, grad_y)
        # They have become those of x.
        grad_x = grad_y if ctx.needs_input_grad[3] else None
        return (None, None, None, grad_x, y, pass_.grad_weights, *pass_.grads)


def active(layer: ReversibleLayer, mixture: Mixture) -> list[Sequence[tuple[Any, Tensor | None]]]:
    """For every node of a layer the operations that run, each with its weight."""
    running = by_node(mixture, layer.splits)
    return [node.active(row) for node, row in zip(layer.nodes, running, strict=True)]


def _others(stream: Tensor, k: int, dtype: torch.dtype) -> list[Tensor]:
    """Copies of all splits but the k-th, as the network sees them."""
    return [split.to(dtype, copy=True) for i, split in enumerate(stream) if i != k]


class _BackwardPass:
    """Algorithm 1 for one layer.

    Args:
        ctx: the autograd context of the layer's forward pass.
        weights: `m × candidates`, or ``None`` without any.
        context: what the operations see besides their input.
    """

    def __init__(self, ctx: Any, weights: Tensor | None, context: NamedTuple):
        self.layer, self.seed, self.autocast = ctx.layer, ctx.seed, ctx.autocast
        self.active = active(self.layer, ctx.choice if weights is None else weights)
        # In the order of the inputs of _Layer.forward.
        _, _, _, self.needs_x, _, self.needs_weights, *needs = ctx.needs_input_grad
        self.context = context._make(
            None if t is None else t.detach().requires_grad_(need)
            for t, need in zip(context, needs, strict=False)
        )
        self.grads: list[Tensor | None] = [None] * len(needs)
        self.grad_weights = torch.zeros_like(weights) if self.needs_weights else None
        self.indices = self._parameter_indices(len(context), needs)

    def _parameter_indices(self, start: int, needs: Sequence[bool]) -> dict[Any, dict[int, Tensor]]:
        """For each operation the parameters that take a gradient, by place in ``grads``."""
        indices: dict[Any, dict[int, Tensor]] = {}
        for node in self.active:
            for operation, _ in node:
                parameters = list(enumerate(operation.parameters(), start))
                indices[operation] = {i: p for i, p in parameters if needs[i]}
                start += len(parameters)
        return indices

    def run(self, y: Tensor, grad_y: Tensor) -> None:
        """For k = n..1, turn ``Y`` into ``X`` in place, and its gradient into that of ``X``."""
        for k in reversed(range(len(y))):
            # G_1 sees only X, whose gradient may not be wanted.
            needs_h = self.needs_x or k > 0
            with torch.enable_grad(), self.autocast():
                # Below k still Y_i, above k already X_i.
                others = [s.requires_grad_(needs_h) for s in _others(y, k, grad_y.dtype)]
                h = self.layer.pool(others)
            seed_generators(self.seed + k, y.device)
            residual, grad_h = self._node(k, h.detach().requires_grad_(needs_h), grad_y[k])
            y[k].sub_(residual)
            if grad_h is not None:
                grad_others = torch.autograd.grad(h, others, grad_h)
                rest = [i for i in range(len(y)) if i != k]
                for i, grad in zip(rest, grad_others, strict=True):
                    grad_y[i].add_(grad)

    def _node(self, k: int, h: Tensor, grad: Tensor) -> tuple[Tensor, Tensor | None]:
        """Recompute ``G_k(h)`` and backpropagate ``grad`` through it, operation by operation."""
        total = grad_h = None
        for o, (operation, weight) in enumerate(self.active[k]):
            with torch.enable_grad(), self.autocast():
                out = operation(h, self.context).to(h.dtype)
            value = out.detach()
            if weight is None:
                return value, self._operation_grads(operation, out, h, grad)
            if self.needs_weights:
                self.grad_weights[k, o] = torch.dot(grad.flatten(), value.flatten())
            total = torch.zeros_like(h) if total is None else total
            total.addcmul_(weight, value)
            grad_input = self._operation_grads(operation, out, h, weight * grad)
            if grad_input is not None:
                grad_h = grad_input if grad_h is None else grad_h.add_(grad_input)
        return total, grad_h

    def _operation_grads(
        self, operation: Any, out: Tensor, h: Tensor, grad_out: Tensor
    ) -> Tensor | None:
        """Add the gradients of parameters and context to ``grads``; return that of ``h``."""
        if not out.requires_grad:
            return None
        inputs = {i: t for i, t in enumerate(self.context) if t is not None and t.requires_grad}
        inputs |= self.indices[operation]
        if h.requires_grad:
            inputs[-1] = h
        if not inputs:  # the context or the parameters took gradients only in the forward pass
            return None
        found = torch.autograd.grad(out, list(inputs.values()), grad_out, allow_unused=True)
        grad_h = None
        for i, grad in zip(inputs, found, strict=True):
            if i == -1:
                grad_h = grad
            elif grad is not None:
                self.grads[i] = grad if self.grads[i] is None else self.grads[i] + grad
        return grad_h


def _autocast_state(device: torch.device) -> Callable[[], AbstractContextManager[None]]:
    """Makes context managers that restore the autocast state of this moment."""
    kind = device.type
    enabled, dtype = torch.is_autocast_enabled(kind), torch.get_autocast_dtype(kind)

    @contextmanager
    def restored():
        # No cache: each weight is used once, and casts made without a graph must not be kept.
        with torch.autocast(kind, dtype=dtype, enabled=enabled, cache_enabled=False):
            yield

    return restored
