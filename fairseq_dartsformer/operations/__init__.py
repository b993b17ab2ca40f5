"""The candidate operations of a search node, in the paper's order (Section 2.5).

An operation maps `T × B × C` to the same shape. :func:`build_operation` makes one by its name, as
the supernet and the derived model both do.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from torch import nn

from .attention import CrossAttention, SelfAttention
from .base import Context, OperationConfig, PostNorm
from .convolution import DynamicConv, StandardConv
from .feed_forward import FeedForward, GatedLinearUnit
from .parameterless import Identity, Zero

__all__ = [
    "DECODER_OPERATIONS",
    "ENCODER_OPERATIONS",
    "OPERATIONS",
    "Context",
    "OperationConfig",
    "build_operation",
]

OPERATIONS: dict[str, Callable[[OperationConfig], nn.Module]] = {
    "conv_3": partial(StandardConv, kernel_size=3),
    "conv_5": partial(StandardConv, kernel_size=5),
    "conv_7": partial(StandardConv, kernel_size=7),
    "conv_11": partial(StandardConv, kernel_size=11),
    "dynamic_conv_3": partial(DynamicConv, kernel_size=3),
    "dynamic_conv_7": partial(DynamicConv, kernel_size=7),
    "dynamic_conv_11": partial(DynamicConv, kernel_size=11),
    "dynamic_conv_15": partial(DynamicConv, kernel_size=15),
    "self_attention": SelfAttention,
    "cross_attention": CrossAttention,
    "glu": GatedLinearUnit,
    "ffn": FeedForward,
    "zero": Zero,
    "identity": Identity,
}

DECODER_OPERATIONS: tuple[str, ...] = tuple(OPERATIONS)
ENCODER_OPERATIONS: tuple[str, ...] = tuple(o for o in OPERATIONS if o != "cross_attention")


def build_operation(name: str, cfg: OperationConfig) -> nn.Module:
    """The operation called ``name``: `LayerNorm(x + dropout(o(x)))`, or zero or identity bare.

    Raises:
        KeyError: no operation is called so.
    """
    operation = OPERATIONS[name](cfg)
    if isinstance(operation, (Zero, Identity)):
        return operation
    return PostNorm(operation, cfg)
