"""Sizes of the named architectures (Table 5, Section 3.3, Figure 5; tensor2tensor)."""

from argparse import Namespace
from fractions import Fraction
from importlib.util import find_spec

from fairseq.models import (
    ARCH_CONFIG_REGISTRY,
    MODEL_DATACLASS_REGISTRY,
    register_model_architecture,
)
from fairseq.models.transformer.transformer_legacy import base_architecture
from omegaconf import DictConfig, OmegaConf, open_dict

from .config import NetworkConfig

BASE = {"embed_dim": 256, "hidden_dim": 960, "attention_heads": 8}
SMALL = {**BASE, "embed_dim": 128, "hidden_dim": 240}
MEDIUM = {**BASE, "hidden_dim": 480}
BIG = {**BASE, "embed_dim": 512, "hidden_dim": 1824}
# 8 heads do not divide 120 / 2.
TINY = {"embed_dim": 128, "hidden_dim": 120, "attention_heads": 4}
# Of language models, ours: the width of fairseq's `transformer_lm_gpt`, half of it and twice.
LM_BASE = {"embed_dim": 256, "hidden_dim": 768, "attention_heads": 8}
LM_SMALL = {**LM_BASE, "embed_dim": 128, "hidden_dim": 384}
LM_BIG = {"embed_dim": 512, "hidden_dim": 1536, "attention_heads": 16}

SIZES: dict[str, dict[str, dict[str, int | float]]] = {
    "dartsformer_search": {"": BASE, "_tiny": TINY, "_small": SMALL, "_medium": MEDIUM},
    "dartsformer": {"": BASE, "_small": SMALL, "_medium": MEDIUM, "_big": BIG},
    "dartsformer_lm_search": {"": LM_BASE, "_small": LM_SMALL},
    "dartsformer_lm": {"": LM_BASE, "_small": LM_SMALL, "_big": LM_BIG},
    # Table 5; and the width of the Transformer that the paper compares with.
    "darts_transformer_search": {"": {**BASE, "embed_dim": 320, "hidden_dim": 320}},
    "darts_transformer": {"": {**BASE, "embed_dim": 512, "hidden_dim": 512}},
    "darts_transformer_lm_search": {"": LM_BASE},
    "darts_transformer_lm": {"": LM_BASE},
    "evolved_transformer": {
        "": {"hidden_dim": 512, "attention_heads": 8, "dropout": 0.1},
        "_big": {"hidden_dim": 1024, "attention_heads": 16, "dropout": 0.3},
    },
}
# Inner width of an ffn over the hidden width: for DARTSformer the ratio with which the number of
# parameters comes to the paper's, for the others that of Vaswani et al.
FFN_RATIOS = {
    model: Fraction(16, 3) if model.startswith("dartsformer") else Fraction(4) for model in SIZES
}


def undo_tpu(args: Namespace) -> None:
    """Let ``--bf16`` on the command line mean bf16; all architectures call this. fairseq takes it
    as a request for a TPU: ``NoneType has no attribute xla_device``."""
    if getattr(args, "bf16", False) and find_spec("torch_xla") is None:
        args.tpu = False


def register_sizes(model: str) -> None:
    """Register the architectures of ``model``; :func:`fill_sizes` fills in their sizes."""
    for suffix in SIZES[model]:
        if suffix:
            register_model_architecture(model, model + suffix)(undo_tpu)
        else:
            ARCH_CONFIG_REGISTRY[model] = undo_tpu


def fill_defaults(cfg: NetworkConfig, model: str) -> None:
    """Fill in the options that a checkpoint of an earlier version lacks.

    fairseq does so for models, but not for their named architectures.
    """
    for name, default in OmegaConf.structured(MODEL_DATACLASS_REGISTRY[model]).items_ex(
        resolve=False
    ):
        if name not in cfg:
            with open_dict(cfg):
                cfg[name] = default


def fill_sizes(cfg: NetworkConfig, model: str) -> None:
    """Fill in the sizes that the user does not give, by the architecture in ``cfg._name``."""
    sizes = SIZES[model]
    architecture = sizes.get((cfg._name or model).removeprefix(model), sizes[""])
    for option, value in architecture.items():
        if getattr(cfg, option) is None:
            remember(cfg, option, value)
    if cfg.ffn_dim is None:
        remember(cfg, "ffn_dim", int(cfg.hidden_dim * FFN_RATIOS[model]))


def remember(cfg: NetworkConfig, option: str, value: str | float) -> None:
    """Set an option of a model, and have the model's checkpoints carry it.

    fairseq gives models a merged copy of their options and saves the original, which is in the
    configuration that the copy has for a parent.
    """
    setattr(cfg, option, value)
    root = cfg._get_parent() if OmegaConf.is_config(cfg) else None
    if isinstance(root, DictConfig) and "model" in root:
        with open_dict(root):
            root.model[option] = value


def _register_transformer(name: str, width: int) -> None:
    """Register a smaller size of fairseq's transformer (Figure 5), with heads 64 wide."""

    def fill(args: Namespace) -> None:
        for stack in ("encoder", "decoder"):
            sizes = {"embed_dim": width, "ffn_embed_dim": 4 * width, "attention_heads": width // 64}
            for option, size in sizes.items():
                vars(args).setdefault(f"{stack}_{option}", size)
        base_architecture(args)

    register_model_architecture("transformer", name)(fill)


_register_transformer("transformer_small", 128)
_register_transformer("transformer_medium", 256)
