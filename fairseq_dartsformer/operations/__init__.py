"""The candidate operations of a search node, in the paper's order (Section 2.5).

An operation maps `T × B × C` to the same shape. Supernets and derived models build operations by
name with :func:`build_operation`; :func:`register_operation` adds one.
"""

from collections.abc import Callable
from functools import partial

from torch import nn

from .attention import CrossAttention, SelfAttention
from .base import NORMS, Context, OperationConfig
from .convolution import DynamicConv, StandardConv
from .position_wise import FeedForward, GatedLinearUnit, Identity, Parameterless, Zero

__all__ = [
    "DECODER_OPERATIONS",
    "ENCODER_OPERATIONS",
    "NORMS",
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

# The paper's candidates, which are the defaults.
DECODER_OPERATIONS: tuple[str, ...] = tuple(OPERATIONS)
ENCODER_OPERATIONS: tuple[str, ...] = tuple(o for o in OPERATIONS if o != "cross_attention")
# The names that genotypes and options may contain, with those that plugins register.
OPERATIONS_BY_STACK: dict[str, list[str]] = {
    "encoder": list(ENCODER_OPERATIONS),
    "decoder": list(DECODER_OPERATIONS),
}


def register_operation(name: str, decoder_only: bool = False) -> Callable[[Builder], Builder]:
    """Register the decorated class, or another builder, as the operation ``name``.

    Genotypes, ``--encoder-operations`` and ``--decoder-operations`` may then contain the name. The
    defaults stay the paper's, so that old checkpoints keep their meaning.

    Args:
        name: a Python identifier that is not taken.
        decoder_only: whether the operation reads the encoder's output, so that neither an encoder
            nor a language model can have it.

    Raises:
        TypeError: the decorator was used without a name.
        ValueError: the name is taken or no identifier.
    """
    if not isinstance(name, str):
        raise TypeError('register_operation takes a name: write @register_operation("NAME")')
    if name in OPERATIONS:
        raise ValueError(f"there is already an operation {name!r}")
    if not name.isidentifier():
        raise ValueError(f"an operation cannot be called {name!r}: use letters, digits and _")

    def register(builder: Builder) -> Builder:
        OPERATIONS[name] = builder
        for stack, names in OPERATIONS_BY_STACK.items():
            if stack == "decoder" or not decoder_only:
                names.append(name)
        return builder

    return register


def describe_operations(stack: str) -> str:
    """List the names of a stack's operations for an error message."""
    return f"{', '.join(OPERATIONS_BY_STACK[stack])}, or what a plugin registers (--user-dir)"


def build_operation(name: str, cfg: OperationConfig) -> nn.Module:
    """Build the operation ``name`` with its residual and norm, or a bare zero or identity; raise a
    :class:`KeyError` if there is no such operation."""
    operation = OPERATIONS[name](cfg)
    if isinstance(operation, Parameterless):
        return operation
    return NORMS[cfg.norm](operation, cfg, name)
