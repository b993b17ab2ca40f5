"""The scales at which the tables can be run: the paper's, and three for small machines.

Options are dictionaries with fairseq's names. The small scales take the paper's from `configs/` and
override some.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from fairseq_dartsformer.models.architectures import SIZES as NAMED_SIZES

ROOT = Path(__file__).resolve().parents[2]
Options = Mapping[str, Any]
# Options taken from a file in configs/, by group: none of model sizes, paths or devices.
GROUPS = {
    "common": ["fp16"],
    "task": ["_name", "arch_fraction"],
    "dataset": ["max_tokens"],
    "criterion": ["_name", "label_smoothing"],
    "optimization": ["lr", "update_freq", "max_update"],
    "optimizer": None,
    "lr_scheduler": None,
    "model": ["dropout", "share_all_embeddings"],
}


def config(name: str) -> dict[str, Any]:
    """The options of a file in configs/ that do not depend on the model."""
    path = ROOT / "configs" / f"{name}.yaml"
    cfg = OmegaConf.load(path)
    shared = [part for part in cfg.pop("defaults") if part != "_self_"]
    cfg = OmegaConf.merge(cfg, *(OmegaConf.load(path.parent / f"{p}.yaml") for p in shared))
    cfg = OmegaConf.to_container(cfg)
    options = {}
    for group, names in GROUPS.items():
        for key in names or cfg[group]:
            if key in cfg[group]:
                value = cfg[group][key]
                value = value[0] if isinstance(value, list) else value
                options[group if key == "_name" else key] = value
    return options


def arguments(options: Options) -> list[str]:
    """Command line arguments; ``True`` becomes a flag, ``False`` and ``None`` are omitted."""
    given = []
    for name, value in options.items():
        if value is not None and value is not False:
            flag = "--" + name.replace("_", "-")
            given += [flag] if value is True else [flag, str(value)]
    return given


def reversible(embed_dim: int, hidden_dim: int, heads: int) -> dict[str, int]:
    """Sizes of a model with a factorised embedding."""
    return {"embed_dim": embed_dim, "hidden_dim": hidden_dim, "attention_heads": heads}


def transformer(width: int, heads: int) -> dict[str, int]:
    """Sizes of fairseq's transformer."""
    sizes = {"embed_dim": width, "ffn_embed_dim": 4 * width, "attention_heads": heads}
    return {f"{side}_{k}": n for side in ("encoder", "decoder") for k, n in sizes.items()}


@dataclass(frozen=True)
class Scale:
    """Sizes and schedules.

    Attributes:
        sizes: options by architecture and name of the size.
        search: options of a search.
        sampling: what replaces them in a search by `uniform_sampling`.
        train: options of a training by name of the size; ``""`` is the default.
        evolve, generate: options of these commands.
        saves: number of checkpoints of a search and of a training.
        average: number of checkpoints averaged; 1 takes the best checkpoint.
        matched: whether all models of a size get the Transformer's number of parameters.
        workers: number of GPUs; with fewer, batches are accumulated.
        hidden_dims: hidden sizes in Figure 1.
    """

    sizes: Mapping[str, Mapping[str, Options]]
    search: Options
    train: Mapping[str, Options]
    evolve: Options
    generate: Options
    hidden_dims: tuple[int, ...]
    sampling: Options = field(default_factory=dict)
    saves: tuple[int, int] = (2, 4)
    average: int = 1
    matched: bool = True
    workers: int = 1

    def train_options(self, size: str) -> Options:
        """Options of a training of that size."""
        return self.train.get(size, self.train[""])

    def hidden_dim(self, arch: str, size: str) -> int:
        """The hidden width of a supernet."""
        sizes = self.sizes[arch][size]
        if "hidden_dim" in sizes:
            return sizes["hidden_dim"]
        return NAMED_SIZES[arch][sizes.get("arch", arch).removeprefix(arch)]["hidden_dim"]


@dataclass(frozen=True)
class _Widths:
    """Sizes of a small scale.

    Attributes:
        layers: of a stack.
        heads: of the attention, where no others are given.
        dartsformer: DARTSformer's sizes by name: (e, d) or (e, d, heads).
        transformer: the Transformer's widths by name.
        darts: width of the search of DARTS on a Transformer.
    """

    layers: int
    heads: int
    dartsformer: Mapping[str, tuple[int, ...]]
    transformer: Mapping[str, int]
    darts: int

    def sizes(self) -> dict[str, dict[str, Options]]:
        layers = {"encoder_layers": self.layers, "decoder_layers": self.layers}
        ours = {k: reversible(*(*v, self.heads)[:3]) | layers for k, v in self.dartsformer.items()}
        widths = self.transformer.items()
        plain = {k: reversible(d, d, self.heads) | layers for k, d in widths}
        evolved = {k: {n: v for n, v in o.items() if n != "embed_dim"} for k, o in plain.items()}
        return {
            "dartsformer_search": ours,
            "dartsformer": ours,
            "darts_transformer_search": {
                "search": reversible(self.darts, self.darts, self.heads) | layers
            },
            "darts_transformer": plain,
            "evolved_transformer": evolved,
            "transformer": {k: transformer(d, self.heads) | layers for k, d in widths},
        }


def _named(model: str, *sizes: str) -> dict[str, Options]:
    """Sizes that are named architectures."""
    return {size: {"arch": model + ("" if size == "base" else f"_{size}")} for size in sizes}


BEAM = {"beam": 5, "max_len_a": 1, "max_len_b": 50}

PAPER = Scale(
    sizes={
        "dartsformer_search": _named("dartsformer_search", "tiny", "small", "medium", "base"),
        "dartsformer": _named("dartsformer", "small", "medium", "base", "big"),
        "darts_transformer_search": {"search": {}},
        "darts_transformer": {"base": {}},
        "evolved_transformer": _named("evolved_transformer", "base", "big"),
        "transformer": {
            **_named("transformer", "small", "medium", "base"),
            "big": {"arch": "transformer_vaswani_wmt_en_de_big"},
        },
    },
    search=config("search/max_s2"),
    train={
        "": config("train/base"),
        # Section 4.3
        **{size: config("train/base") | {"max_update": 200_000} for size in ("small", "medium")},
        "big": config("train/big"),
    },
    evolve={"max_parameters": "65M", "fp16": True},
    generate=BEAM | {"lenpen": 0.6, "max_tokens": 8000},
    hidden_dims=(120, 240, 480, 720, 960),
    saves=(6, 50),
    average=5,
    matched=False,
    workers=8,
)


def _small(widths: _Widths, search: Options, train: Options, **more: Any) -> Scale:
    # The same dropout for all models; the Evolved Transformer's defaults differ.
    rates = {"dropout": 0.1, "attention_dropout": 0.0, "activation_dropout": 0.0}
    shared = {"fp16": False, "update_freq": 1, **rates}
    # In so few updates, weight decay would keep alpha near its initial value.
    alpha = {"arch_lr": 1e-2, "arch_weight_decay": 0.0, "disable_validation": True}
    return Scale(
        sizes=widths.sizes(),
        search=config("search/max_s2") | shared | alpha | search,
        train={"": config("train/base") | shared | train},
        generate=BEAM | {"max_tokens": 8000},
        **more,
    )


# Hours on a GPU, with some hundred thousand sentence pairs.
SMALL = _small(
    _Widths(
        layers=6,
        heads=4,
        dartsformer={
            **{"tiny": (64, 24), "small": (64, 48), "medium": (128, 120)},
            **{"base": (128, 240), "big": (256, 456)},
        },
        transformer={"small": 32, "medium": 64, "base": 128, "big": 256},
        darts=80,
    ),
    {"max_update": 8000, "max_tokens": 4000, "lr": 1e-3, "warmup_updates": 500},
    {"max_update": 10000, "max_tokens": 4000, "lr": 2e-3, "warmup_updates": 1000},
    evolve={"generations": 10, "population": 50, "parents": 10, "mutations": 20, "crossovers": 20},
    hidden_dims=(48, 120, 240),
)
# Minutes a step on two cores, with some ten thousand sentence pairs.
TINY = _small(
    _Widths(
        layers=2,
        heads=2,
        dartsformer={
            **{"tiny": (16, 24), "small": (32, 60), "medium": (64, 120)},
            **{"base": (128, 240), "big": (128, 456)},
        },
        transformer={"small": 32, "medium": 64, "base": 128, "big": 256},
        darts=80,
    ),
    {"max_update": 200, "max_tokens": 1000, "lr": 2e-3, "warmup_updates": 40},
    {"max_update": 1000, "max_tokens": 2000, "lr": 2e-3, "warmup_updates": 200},
    evolve={"generations": 5, "population": 24, "parents": 8, "mutations": 8, "crossovers": 8},
    hidden_dims=(24, 48),
)
# The sizes and schedules of the architecture benchmark (examples/nas_benchmark), and trainings of
# twice its length: a quarter of an hour each on a core, with some hundred thousand short pairs.
SHORT = _small(
    _Widths(
        layers=2,
        heads=4,
        dartsformer={
            **{"tiny": (32, 36, 2), "small": (32, 60, 2), "medium": (64, 96), "base": (64, 120)},
            **{"big": (128, 240)},
        },
        transformer={"small": 32, "medium": 48, "base": 64, "big": 128},
        darts=40,
    ),
    {"max_update": 1000, "max_tokens": 1000, "lr": 3e-3, "warmup_updates": 200, "arch_start": 200},
    {"max_update": 8000, "max_tokens": 2000, "lr": 3e-3, "warmup_updates": 200},
    evolve={"generations": 4, "population": 50, "parents": 10, "mutations": 25, "crossovers": 25},
    hidden_dims=(60, 120),
    sampling={"max_update": 4000},  # an update trains one candidate
)
SCALES = {"paper": PAPER, "small": SMALL, "short": SHORT, "tiny": TINY}
