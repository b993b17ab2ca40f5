"""Backpropagation with reconstruction (Algorithm 1), one operation at a time.

Every layer is one autograd function; only the function at the top saves an activation. The stream
carries the values up, beside an empty carrier. On the way down, the carrier's gradient is the
gradient, and the stream's "gradient" is the reconstructed value:

    x ── Layer 1 ── Layer 2 ── … ── Top ── y          forward: the stream
    dX, X ←─ dY, Y ←── dY, Y ←─ … ←── (Y) ←─ dY       backward: gradient and reconstruction

No state is kept outside the graph, so that two forward passes may precede a backward pass. Autograd
sums the gradients of weights that layers share, and each parameter's hooks run once.

The stream is one contiguous tensor, `n × T × B × C`, which every layer changes in place, up and
down; so is its gradient. It is float64, and the network sees it rounded to its own precision. In
float32, `Y - G` loses the last digits of X, because the stream grows with depth; the layers amplify
the loss, to 1e-4 of X after 24 layers at initialisation.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from .coupling import Mixture, ReversibleLayer, by_node, put_together, take_apart
from .seeding import preserved_generators, seed_generators


def reconstructing_forward(
    layers: Sequence[ReversibleLayer],
    x: Tensor,
    mixtures: Sequence[Mixture],
    context: NamedTuple,
    seeds: Sequence[int],
    reconstruction: Tensor | None = None,
) -> Tensor:
    """Run ``layers`` on ``x`` and store only the top output.

    Args:
        layers: reversible layers from bottom to top.
        x: `T × B × d`.
        mixtures: one for each layer, see :data:`.coupling.Mixture`.
        context: named tuple of tensors or ``None``; gradients flow to the tensors.
        seeds: one for each layer; the global generators are left seeded.
        reconstruction: a leaf shaped like ``x`` that receives the reconstructed ``x`` as its
            gradient.

    Returns:
        Tensor `T × B × d`; its gradients are those of ordinary autograd up to rounding.
    """
    carrier = torch.stack(x.chunk(layers[0].splits, dim=-1))
    stream = carrier.detach().to(torch.float64)
    if reconstruction is not None:
        stream = stream + torch.stack(reconstruction.chunk(len(stream), dim=-1))
    for layer, mixture, seed in zip(layers, mixtures, seeds, strict=True):
        parameters = [
            parameter
            for node in _active(layer, mixture)
            for operation in node.values()
            for parameter in operation.parameters()
        ]
        weights, indices = take_apart(mixture)
        carrier, stream = _Layer.apply(
            *(layer, seed, indices, type(context), carrier, stream, weights),
            *context,
            *parameters,
        )
    return _Top.apply(carrier, stream)


class _Top(torch.autograd.Function):
    """Saves the top output, and starts the chain of reconstructions with it."""

    @staticmethod
    def forward(ctx: Any, carrier: Tensor, stream: Tensor) -> Tensor:
        ctx.save_for_backward(stream)
        return torch.cat(stream.to(carrier.dtype).unbind(), dim=-1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor, Tensor]:
        (stream,) = ctx.saved_tensors
        # Copies, because the layers change them in place and the graph may be used again.
        return torch.stack(grad_y.chunk(len(stream), dim=-1)), stream.clone()


class _Layer(torch.autograd.Function):
    """One reversible layer: Eq. 3 forward, Algorithm 1 backward.

    The inputs after the stream are the mixing weights, the tensors of the context, and the
    parameters of the active operations.
    """

    @staticmethod
    def forward(
        ctx: Any,
        layer: ReversibleLayer,
        seed: int,
        indices: Any,
        context_type: type,
        carrier: Tensor,
        stream: Tensor,
        weights: Tensor | None,
        *tensors: Tensor | None,
    ) -> tuple[Tensor, Tensor]:
        context = context_type._make(tensors[: len(context_type._fields)])
        ctx.layer, ctx.seed, ctx.context_type = layer, seed, context_type
        ctx.autocast = _autocast_state(stream.device)
        ctx.indices = indices
        # With the parameters, so that autograd reports those that changed before the backward pass.
        ctx.save_for_backward(weights, *tensors)
        ctx.set_materialize_grads(False)

        ctx.mark_dirty(stream)
        with ctx.autocast():
            for k, row in enumerate(by_node(put_together(weights, indices), layer.splits)):
                others = _others(stream, k, carrier.dtype)
                stream[k].add_(layer.residual(k, others, row, context, seed))
        # A zero-stride placeholder: the stream's shape, one element of storage.
        return carrier.new_zeros(()).expand(carrier.shape), stream

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_y: Tensor, y: Tensor) -> tuple[Tensor | None, ...]:
        weights, *tensors = ctx.saved_tensors
        context = ctx.context_type._make(tensors[: len(ctx.context_type._fields)])
        pass_ = _BackwardPass(ctx, weights, context)
        with preserved_generators(y.device):
            pass_.run(y, grad_y)
        # In place, run has turned both into those of x.
        grad_x = grad_y if ctx.needs_input_grad[4] else None
        return (None, None, None, None, grad_x, y, pass_.grad_weights, *pass_.grads)


def _active(layer: ReversibleLayer, mixture: Mixture) -> list[Mapping[int, Any]]:
    """Return what :meth:`.coupling.Node.active` returns, for each node of a layer."""
    rows = by_node(mixture, layer.splits)
    return [node.active(row) for node, row in zip(layer.nodes, rows, strict=True)]


def _others(stream: Tensor, k: int, dtype: torch.dtype) -> list[Tensor]:
    """Copy all splits but the k-th, in the dtype of the network."""
    return [split.to(dtype, copy=True) for i, split in enumerate(stream) if i != k]


class _BackwardPass:
    """Algorithm 1 for one layer, from the autograd context and tensors of its forward pass."""

    def __init__(self, ctx: Any, weights: Tensor | None, context: NamedTuple):
        self.layer, self.seed, self.autocast = ctx.layer, ctx.seed, ctx.autocast
        self.active = _active(self.layer, put_together(weights, ctx.indices))
        # In the order of the inputs of _Layer.forward.
        _, _, _, _, self.needs_x, _, self.needs_weights, *needs = ctx.needs_input_grad
        self.context = context._make(
            None if t is None else t.detach().requires_grad_(need)
            for t, need in zip(context, needs, strict=False)
        )
        self.grads: list[Tensor | None] = [None] * len(needs)
        self.weights = by_node(weights, self.layer.splits)
        self.grad_weights = torch.zeros_like(weights) if self.needs_weights else None
        # For each operation the parameters that take a gradient, by index in grads.
        self.parameters: dict[Any, dict[int, Tensor]] = {}
        start = len(context)
        for operation in (active for node in self.active for active in node.values()):
            parameters = list(enumerate(operation.parameters(), start))
            self.parameters[operation] = {i: p for i, p in parameters if needs[i]}
            start += len(parameters)
        kept = {i: p for found in self.parameters.values() for i, p in found.items()}
        self.buffers = _gradient_buffers(kept)

    def run(self, y: Tensor, grad_y: Tensor) -> None:
        """For k = n..1, turn ``Y`` into ``X`` in place, and its gradient into that of ``X``."""
        for k in reversed(range(len(y))):
            # G_1 sees only X, which may need no gradient.
            needs_h = self.needs_x or k > 0
            with torch.enable_grad(), self.autocast():
                # Still Y_i for i < k, already X_i for i > k.
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
        for o, operation in self.active[k].items():
            with torch.enable_grad(), self.autocast():
                out = operation(h, self.context).to(h.dtype)
            value = out.detach()
            if self.weights[k] is None:
                return value, self._operation_grads(operation, out, h, grad)
            weight = self.weights[k][o]
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
        inputs = {i: t for i, t in enumerate(self.context) if t is not None and t.requires_grad}
        inputs |= self.parameters[operation]
        if h.requires_grad:
            inputs[-1] = h
        # Parameters that took gradients in the forward pass may no longer do so.
        if not inputs or not out.requires_grad:
            return None
        found = torch.autograd.grad(out, list(inputs.values()), grad_out, allow_unused=True)
        grads = dict(zip(inputs, found, strict=True))
        grad_h = grads.pop(-1, None)
        for i, grad in grads.items():
            if grad is not None:
                grad = self.buffers.pop(i).copy_(grad) if i in self.buffers else grad
                self.grads[i] = grad if self.grads[i] is None else self.grads[i] + grad
        return grad_h


def _gradient_buffers(parameters: Mapping[int, Tensor]) -> dict[int, Tensor]:
    """Allocate the gradients of a layer's parameters, by index, side by side in one storage.

    They stay until the optimizer's step. Allocated one by one among the temporaries of recomputed
    operations, they would leave gaps in a CPU's heap that fit no later temporary: at d 480, a
    search process would hold 0.7 GB more.
    """
    buffers: dict[int, Tensor] = {}
    for dtype in {p.dtype for p in parameters.values()}:
        found = {i: p for i, p in parameters.items() if p.dtype == dtype}
        sizes = [p.numel() for p in found.values()]
        storage = next(iter(found.values())).new_empty(sum(sizes))
        parts = zip(found.items(), storage.split(sizes), strict=True)
        buffers |= {i: part.view_as(p) for (i, p), part in parts}
    return buffers


def _autocast_state(device: torch.device) -> Callable[[], AbstractContextManager[None]]:
    """Return a function whose contexts restore the present autocast state."""
    kind = device.type
    enabled, dtype = torch.is_autocast_enabled(kind), torch.get_autocast_dtype(kind)
    # No cache: each weight is used once, and casts made without a graph must not be kept.
    return partial(torch.autocast, kind, dtype=dtype, enabled=enabled, cache_enabled=False)
