"""Supernets and derived models, one file for each family, and the models of comparison."""

from .darts_transformer import DARTSTransformerModel, DARTSTransformerSearchModel
from .dartsformer import DARTSformerModel, DARTSformerSearchModel
from .evolved_transformer import EvolvedTransformerModel
from .hub import TranslationHub

__all__ = [
    "DARTSTransformerModel",
    "DARTSTransformerSearchModel",
    "DARTSformerModel",
    "DARTSformerSearchModel",
    "EvolvedTransformerModel",
    "TranslationHub",
]
