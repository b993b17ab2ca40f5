"""Options as omegaconf 2.0 reads them, which official fairseq 0.12.2 asks for."""

from __future__ import annotations

from functools import wraps

import yaml
from omegaconf import AnyNode, OmegaConf
from omegaconf.base import Container

SELECT = "oc.select:"


def apply() -> None:
    """Put this workaround in place, where it is needed."""
    if not hasattr(OmegaConf, "register_new_resolver"):  # omegaconf 2.1 has it
        Container._resolve_simple_interpolation = _with_select(
            Container._resolve_simple_interpolation
        )


def _with_select(resolve):
    """``${oc.select:KEY,DEFAULT}``, an option that some commands have.

    Symptom: ``interpolation key 'oc.select:…' not found``. Cause: omegaconf 2.0 takes it for a key.
    Goes with fairseq 0.12.2.
    """

    @wraps(resolve)
    def resolve_simple_interpolation(self, key, inter_type, inter_key, **how):
        if not inter_key.startswith(SELECT):
            return resolve(self, key, inter_type, inter_key, **how)
        option, default = inter_key[len(SELECT) :].split(",")
        found = OmegaConf.select(self._get_root(), option)
        return AnyNode(yaml.safe_load(default) if found is None else found)

    return resolve_simple_interpolation
