"""Supernets and derived models, a family a file."""

from .darts_transformer import DARTSTransformerModel, DARTSTransformerSearchModel
from .dartsformer import DARTSformerModel, DARTSformerSearchModel

__all__ = [
    "DARTSTransformerModel",
    "DARTSTransformerSearchModel",
    "DARTSformerModel",
    "DARTSformerSearchModel",
]
