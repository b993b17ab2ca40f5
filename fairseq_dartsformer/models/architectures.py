"""Named sizes (Table 5, Section 3.3, Figure 5)."""

from __future__ import annotations

from argparse import Namespace
from typing import Any

from fairseq.models import ARCH_CONFIG_REGISTRY, register_model_architecture

from ..compat import undo_tpu

SMALL = {"embed_dim": 128, "hidden_dim": 240}
MEDIUM = {"embed_dim": 256, "hidden_dim": 480}

SEARCH_SIZES: dict[str, dict[str, Any]] = {
    "": {},
    # 8 heads do not divide 120 / 2.
    "_tiny": {"embed_dim": 128, "hidden_dim": 120, "attention_heads": 4},
    "_small": SMALL,
    "_medium": MEDIUM,
}
DERIVED_SIZES: dict[str, dict[str, Any]] = {
    "": {},
    "_small": SMALL,
    "_medium": MEDIUM,
    "_big": {"embed_dim": 512, "hidden_dim": 1824},
}


def register_sizes(model: str, sizes: dict[str, dict[str, Any]]) -> None:
    """Register ``model``'s architectures; an option given by the user wins over the size's."""
    for suffix, defaults in sizes.items():

        def architecture(args: Namespace, defaults: dict[str, Any] = defaults) -> None:
            undo_tpu(args)
            for name, value in defaults.items():
                if not hasattr(args, name):
                    setattr(args, name, value)

        if suffix:
            register_model_architecture(model, model + suffix)(architecture)
        else:
            ARCH_CONFIG_REGISTRY[model] = architecture
