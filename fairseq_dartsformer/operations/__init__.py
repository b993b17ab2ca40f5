"""The candidate operations of a search node, in the paper's order (Section 2.5).

An operation maps `T × B × C` to the same shape. :func:`build_operation` makes one by its name, as
the supernet and the derived model both do; :func:`register_operation` adds one.
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
    "OPERATIONS_BY_STACK",
    "Context",
    "OperationConfig",
    "build_operation",
    "describe_operations",
    "register_operation",
]

Builder = Callable[[OperationConfig], nn.Module]

OPERATIONS: dict[str, Builder] = {
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

# The paper's, and the candidates where nothing else is said.
DECODER_OPERATIONS: tuple[str, ...] = tuple(OPERATIONS)
ENCODER_OPERATIONS: tuple[str, ...] = tuple(o for o in OPERATIONS if o != "cross_attention")
# All that a genotype or an option may name.
OPERATIONS_BY_STACK: dict[str, list[str]] = {
    "encoder": list(ENCODER_OPERATIONS),
    "decoder": list(DECODER_OPERATIONS),
}


def register_operation(name: str, decoder_only: bool = False) -> Callable[[Builder], Builder]:
    """Decorator of a class, or of another builder, that makes the operation called ``name``.

    Genotypes may name it, and ``--encoder-operations`` and ``--decoder-operations``; those not
    given are the paper's still, lest a checkpoint mean something else than when it was written.

    Args:
        name: a new one, without commas.
        decoder_only: whether the encoder cannot have it.

    Raises:
        TypeError: the decorator was not given a name.
        ValueError: the name is taken, or cannot stand in a comma-separated list.
    """
    if not isinstance(name, str):
        raise TypeError('register_operation takes the name: write @register_operation("NAME")')
    if name in OPERATIONS:
        raise ValueError(f"there is an operation {name!r} already")
    if not name.isidentifier():
        raise ValueError(f"an operation cannot be called {name!r}: take letters, digits and _")

    def register(builder: Builder) -> Builder:
        OPERATIONS[name] = builder
        for stack, names in OPERATIONS_BY_STACK.items():
            if stack == "decoder" or not decoder_only:
                names.append(name)
        return builder

    return register


def describe_operations(stack: str) -> str:
    """What a stack's operations may be, for an error's text."""
    return f"{', '.join(OPERATIONS_BY_STACK[stack])}, or what a plugin registers (--user-dir)"


def build_operation(name: str, cfg: OperationConfig) -> nn.Module:
    """The operation called ``name``: `LayerNorm(x + dropout(o(x)))`, or zero or identity bare.

    Raises:
        KeyError: no operation is called so.
    """
    operation = OPERATIONS[name](cfg)
    if isinstance(operation, (Zero, Identity)):
        return operation
    return PostNorm(operation, cfg, name)
