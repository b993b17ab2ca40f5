"""Cross entropy of a linear output layer that never stores tokens × vocabulary.

Label smoothing needs no second softmax. With `z = W x + b` and `lse = log sum_v exp(z_v)`

    nll = lse - z_y        sum_v -log p_v = V lse - sum_v z_v = V (nll + z_y) - sum_v z_v

so the smoothed loss is the plain loss, computed in chunks, and two sums that are linear in x.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

CHUNK = 2**23  # logits at a time: 32 MiB of float32, enough for matrix products at full speed
# Half-precision gradients are multiplied by this, so that small probabilities do not become zero,
# and by less where the sums over a chunk could overflow.
HALF_SCALE, HALF_RANGE = 16.0, 6e4


def smoothed_cross_entropy(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    target: Tensor,
    smoothing: float,
    padding: int = -100,
) -> tuple[Tensor, Tensor]:
    """Return what fairseq calls ``loss`` and ``nll_loss``, summed over the tokens.

    Args:
        x: features `N × e`.
        weight: `V × e`.
        bias: `V` or ``None``.
        target: `N`.
        smoothing: fairseq's epsilon, spread over the V - 1 wrong symbols. (torch spreads its own
            over all V; it is larger by `V / (V - 1)` for the same loss.)
        padding: the target of tokens that do not count.

    Returns:
        Two scalars in nats, float32 at least; only the first has gradients.
    """
    if torch.is_autocast_enabled(x.device.type):
        x = x.to(torch.get_autocast_dtype(x.device.type))
    nll = _NLLSum.apply(x, weight, bias, target, padding, torch.is_grad_enabled())
    if smoothing == 0:
        return nll, nll.detach()
    vocabulary = len(weight)
    share = smoothing / (vocabulary - 1)
    real = target.ne(padding)
    target = target.where(real, 0)
    with torch.autocast(x.device.type, enabled=False):
        x = x.to(torch.promote_types(x.dtype, torch.float32)) * real[:, None]
        target_logits = (x * F.embedding(target, weight)).sum()
        logits = x.sum(0) @ weight.sum(0, dtype=x.dtype)
        if bias is not None:
            target_logits = target_logits + (bias[target] * real).sum(dtype=x.dtype)
            logits = logits + real.sum() * bias.sum(dtype=x.dtype)
    # (1 - smoothing - share) nll + share (V (nll + target_logits) - logits)
    loss = nll + share * ((vocabulary * target_logits) - logits)
    return loss, nll.detach()


def rows_at_a_time(weight: Tensor) -> int:
    """Return the number of tokens in a chunk; ``weight`` is `V × e`."""
    return max(1, CHUNK // len(weight))


@torch.no_grad()
def count_correct(
    x: Tensor, weight: Tensor, bias: Tensor | None, target: Tensor, padding: int
) -> Tensor:
    """Count the tokens whose target is the likeliest symbol; see :func:`smoothed_cross_entropy`."""
    rows = rows_at_a_time(weight)
    correct = target.new_zeros(())
    for chunk, wanted in zip(x.split(rows), target.split(rows), strict=True):
        likeliest = F.linear(chunk, weight, bias).argmax(-1)
        correct += (likeliest.eq(wanted) & wanted.ne(padding)).sum()
    return correct


class _NLLSum(torch.autograd.Function):
    """Computes the gradients with the logits, and scales them in the backward pass, once."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        target: Tensor,
        padding: int,
        grad: bool,  # grad mode, which is off inside this function
    ) -> Tensor:
        rows = rows_at_a_time(weight)
        wide = torch.promote_types(x.dtype, torch.float32)
        scale = 1.0
        if x.dtype != wide:
            scale = (HALF_RANGE / rows / x.abs().amax().to(wide)).clamp(max=HALF_SCALE)
        ctx.dtypes = [None if t is None else t.dtype for t in (x, weight, bias)]
        ctx.grads = [
            torch.zeros_like(t, dtype=wide) if grad and need else None
            for t, need in zip((x, weight, bias), ctx.needs_input_grad, strict=False)
        ]
        grad_x, grad_weight, grad_bias = ctx.grads
        weight = weight.to(x.dtype)
        bias = None if bias is None else bias.to(x.dtype)
        total = x.new_zeros((), dtype=wide)
        for start in range(0, len(x), rows):
            chunk, wanted = x[start : start + rows], target[start : start + rows, None]
            real = wanted.ne(padding)
            wanted = wanted.where(real, 0)
            # In place, and with one exponential for the loss and its gradients.
            logits = F.linear(chunk, weight, bias).to(wide)
            logits -= logits.amax(-1, keepdim=True)
            target_logits = logits.gather(1, wanted)
            probabilities = logits.exp_()
            sums = probabilities.sum(-1, keepdim=True)
            total += ((sums.log() - target_logits) * real).sum()
            if all(g is None for g in ctx.grads):
                continue
            grad_logits = probabilities.mul_(scale * real / sums)
            grad_logits.scatter_add_(1, wanted, -scale * real.to(wide))
            if grad_bias is not None:
                grad_bias += grad_logits.sum(0)
            grad_logits = grad_logits.to(x.dtype)
            if grad_x is not None:
                grad_x[start : start + rows] = grad_logits @ weight
            if grad_weight is not None:
                grad_weight += grad_logits.t() @ chunk
        for g in ctx.grads:
            if g is not None:
                g /= scale
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        if ctx.grads is None:
            raise RuntimeError("the chunked output layer can be backpropagated through once")
        grads, ctx.grads = ctx.grads, None  # free the memory for the rest of the backward pass
        scaled = (
            None if g is None else g.mul_(grad).to(dtype)
            for g, dtype in zip(grads, ctx.dtypes, strict=True)
        )
        return (*scaled, None, None, None)
