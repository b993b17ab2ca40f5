"""Official fairseq 0.12.2, and the omegaconf 2.0 it asks for. All of it goes with that release."""

from __future__ import annotations

from functools import wraps

import fairseq
import yaml
from fairseq.modules import SinusoidalPositionalEmbedding
from fairseq.modules.transformer_layer import TransformerEncoderLayerBase
from omegaconf import AnyNode, OmegaConf
from omegaconf.base import Container

SELECT = "oc.select:"


def apply() -> None:
    """Put these workarounds in place, where they are needed."""
    if not hasattr(OmegaConf, "register_new_resolver"):  # omegaconf 2.1 has it
        Container._resolve_simple_interpolation = _select(Container._resolve_simple_interpolation)
    if fairseq.__version__ == "0.12.2":
        positions = SinusoidalPositionalEmbedding
        positions.__init__ = _zero_buffer(positions.__init__)
        TransformerEncoderLayerBase.can_use_fastpath = _never()


def _select(resolve):
    """``${oc.select:KEY,DEFAULT}``, an option that some commands have.

    Symptom: ``interpolation key 'oc.select:…' not found``. Cause: omegaconf 2.0 takes it for a key.
    """

    @wraps(resolve)
    def resolve_simple_interpolation(self, key, inter_type, inter_key, **how):
        if not inter_key.startswith(SELECT):
            return resolve(self, key, inter_type, inter_key, **how)
        option, default = inter_key[len(SELECT) :].split(",")
        found = OmegaConf.select(self._get_root(), option)
        return AnyNode(yaml.safe_load(default) if found is None else found)

    return resolve_simple_interpolation


def _zero_buffer(init):
    """Positions with nothing in them that was never written.

    Symptom: checkpoints of one and the same training differ. Cause: fairseq saves a buffer that
    stands for a dtype, `_float_tensor`, as it found it in memory.
    """

    @wraps(init)
    def __init__(self, *arguments, **options):
        init(self, *arguments, **options)
        self._float_tensor.zero_()

    return __init__


def _never() -> property:
    """No short cut through torch in the encoder of fairseq's Transformer.

    Symptom: `fairseq-generate` ends with ``Mask Type should be defined``. Cause: it calls an inner
    function of torch, which has changed since.
    """
    return property(lambda layer: False, lambda layer, value: None)
