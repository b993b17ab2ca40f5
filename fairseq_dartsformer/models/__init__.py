"""The supernet, `dartsformer_search`, and the derived model, `dartsformer`."""

from .derived import DARTSformerModel
from .supernet import DARTSformerSearchModel

__all__ = ["DARTSformerModel", "DARTSformerSearchModel"]
