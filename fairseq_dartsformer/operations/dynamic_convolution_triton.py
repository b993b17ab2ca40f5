"""Dynamic convolution with one Triton kernel per pass instead of K passes over memory.

Every number is read once from memory and K times from the cache. Sums are float32 at least.
Gradients are gathered, not scattered, so that equal inputs give equal bits.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

STEPS = 16  # positions of a program's tile
COLUMNS = 64  # channels of sentences in it, of one or several heads


@triton.jit
def _forward(
    windows, kernels, out, steps, columns, heads_columns,
    WIDTH: tl.constexpr, SIZE: tl.constexpr, STEPS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """`out[t, p] = sum_j kernels[t, p / WIDTH, j] · windows[t + j, p]`."""
    t = tl.program_id(1) * STEPS + tl.arange(0, STEPS)[:, None]
    p = tl.program_id(0) * COLUMNS + tl.arange(0, COLUMNS)[None, :]
    inside = (t < steps) & (p < columns)
    kernel = kernels + (t.to(tl.int64) * heads_columns + p // WIDTH) * SIZE
    window = windows + t.to(tl.int64) * columns + p
    wide = tl.float64 if windows.dtype.element_ty == tl.float64 else tl.float32
    total = tl.zeros((STEPS, COLUMNS), dtype=wide)
    for j in tl.static_range(SIZE):
        weight = tl.load(kernel + j, mask=inside, other=0.0).to(wide)
        total += weight * tl.load(window + j * columns, mask=inside, other=0.0).to(wide)
    tl.store(out + t.to(tl.int64) * columns + p, total, mask=inside)


@triton.jit
def _grad_windows(
    grad, kernels, grad_windows, steps, columns, heads_columns,
    WIDTH: tl.constexpr, SIZE: tl.constexpr, STEPS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """`grad_windows[s, p] = sum_j kernels[s - j, p / WIDTH, j] · grad[s - j, p]`."""
    s = tl.program_id(1) * STEPS + tl.arange(0, STEPS)[:, None]
    p = tl.program_id(0) * COLUMNS + tl.arange(0, COLUMNS)[None, :]
    wide = tl.float64 if grad.dtype.element_ty == tl.float64 else tl.float32
    total = tl.zeros((STEPS, COLUMNS), dtype=wide)
    for j in tl.static_range(SIZE):
        t = (s - j).to(tl.int64)
        inside = (t >= 0) & (t < steps) & (p < columns)
        kernel = kernels + (t * heads_columns + p // WIDTH) * SIZE + j
        weight = tl.load(kernel, mask=inside, other=0.0).to(wide)
        total += weight * tl.load(grad + t * columns + p, mask=inside, other=0.0).to(wide)
    inside = (s < steps + SIZE - 1) & (p < columns)
    tl.store(grad_windows + s.to(tl.int64) * columns + p, total, mask=inside)


@triton.jit
def _grad_kernels(
    grad, windows, grad_kernels, rows, columns, heads_columns,
    WIDTH: tl.constexpr, SIZE: tl.constexpr, ROWS: tl.constexpr, PADDED: tl.constexpr,
):  # fmt: skip
    """`grad_kernels[t, h, j] = sum_c grad[t, h WIDTH + c] · windows[t + j, h WIDTH + c]`."""
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)[:, None]
    c = tl.arange(0, PADDED)[None, :]
    inside = (row < rows) & (c < WIDTH)
    place = (row // heads_columns) * columns + (row % heads_columns) * WIDTH + c
    wide = tl.float64 if grad.dtype.element_ty == tl.float64 else tl.float32
    g = tl.load(grad + place, mask=inside, other=0.0).to(wide)
    for j in tl.static_range(SIZE):
        window = tl.load(windows + place + j * columns, mask=inside, other=0.0).to(wide)
        total = tl.sum(g * window, axis=1)[:, None]
        tl.store(grad_kernels + row * SIZE + j, total, mask=row < rows)


def forward(windows: Tensor, kernels: Tensor) -> Tensor:
    """:func:`.convolution.dynamic_convolution` of tensors of one dtype.

    Args:
        windows: `(T + K - 1) × B × C`, contiguous: the kernels use no strides.
        kernels: `T × B × H × K`, contiguous.
    """
    steps, batch, heads, size = kernels.shape
    channels = windows.size(-1)
    out = windows.new_empty(steps, batch, channels)
    columns = batch * channels
    grid = (triton.cdiv(columns, COLUMNS), triton.cdiv(steps, STEPS))
    with torch.cuda.device_of(windows):
        _forward[grid](
            windows, kernels, out, steps, columns, batch * heads,
            channels // heads, size, STEPS, COLUMNS,
        )  # fmt: skip
    return out


def backward(grad: Tensor, windows: Tensor, kernels: Tensor) -> tuple[Tensor, Tensor]:
    """Return the gradients of windows and kernels from that of :func:`forward`'s result.

    Args:
        grad: `T × B × C`, contiguous.
        windows, kernels: the arguments of :func:`forward`.
    """
    steps, batch, heads, size = kernels.shape
    channels = windows.size(-1)
    columns, width = batch * channels, channels // heads
    grad_windows, grad_kernels = torch.empty_like(windows), torch.empty_like(kernels)
    sizes = (columns, batch * heads, width, size)
    grid = (triton.cdiv(columns, COLUMNS), triton.cdiv(len(windows), STEPS))
    rows, padded = steps * batch * heads, triton.next_power_of_2(width)
    tile = max(1, STEPS * COLUMNS // padded)
    with torch.cuda.device_of(windows):
        _grad_windows[grid](grad, kernels, grad_windows, steps, *sizes, STEPS, COLUMNS)
        _grad_kernels[(triton.cdiv(rows, tile),)](
            grad, windows, grad_kernels, rows, *sizes, tile, padded
        )
    return grad_windows, grad_kernels
