"""Supernets and derived models, one file for each family, and the models of comparison."""

from .darts_transformer import (
    DARTSTransformerLMModel,
    DARTSTransformerLMSearchModel,
    DARTSTransformerModel,
    DARTSTransformerSearchModel,
)
from .dartsformer import (
    DARTSformerLMModel,
    DARTSformerLMSearchModel,
    DARTSformerModel,
    DARTSformerSearchModel,
)
from .evolved_transformer import EvolvedTransformerModel
from .hub import TranslationHub

__all__ = [
    "DARTSTransformerLMModel",
    "DARTSTransformerLMSearchModel",
    "DARTSTransformerModel",
    "DARTSTransformerSearchModel",
    "DARTSformerLMModel",
    "DARTSformerLMSearchModel",
    "DARTSformerModel",
    "DARTSformerSearchModel",
    "EvolvedTransformerModel",
    "TranslationHub",
]
