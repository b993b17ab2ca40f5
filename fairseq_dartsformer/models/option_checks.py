"""Checks of options before anything is built; each error names the option at fault."""

from collections.abc import Sequence

from fairseq.tasks import TASK_REGISTRY, FairseqTask

from ..errors import InputError, flag
from ..search_space.families import Family
from .config import NetworkConfig, SizeConfig

# For each layer and node the names of the node's operations: the candidates of a searched node, or
# a single operation.
Block = Sequence[Sequence[Sequence[str]]]

HEADED = ("self_attention", "cross_attention", "dynamic_conv")
WIDTHS = ("embed_dim", "hidden_dim", "ffn_dim")
SIZES = (*WIDTHS, "attention_heads", "encoder_layers", "decoder_layers")
LARGEST = 1 << 16  # larger sizes fill the memory, or run for hours before they fail
POSITIONS = ("max_source_positions", "max_target_positions")
RATES = ("dropout", "attention_dropout", "activation_dropout", "weight_dropout")


def check_task(cfg: NetworkConfig, task: FairseqTask) -> None:
    """Raise an :class:`InputError` if the task does not give the lengths of the model's inputs."""
    lengths, needs, suitable = POSITIONS, "source and target", "translation"
    if "max_source_positions" not in cfg:
        lengths, needs, suitable = ("tokens_per_sample",), "a text alone", "language_modeling"
    if any(getattr(cfg, name) is None for name in lengths):
        names = [name for name, kind in TASK_REGISTRY.items() if kind is type(task)]
        raise InputError(
            f"--task is {', '.join(names)}, but the model needs {needs}: use {suitable}, or "
            f"{suitable}_search for a supernet"
        )


def check_sizes(cfg: NetworkConfig, task: FairseqTask) -> None:
    """Raise an :class:`InputError` if an option that all models share is out of range, or if the
    task does not suit the model."""
    check_task(cfg, task)
    for name in (name for name in POSITIONS if name in cfg):
        check_at_least(cfg, name, 1, 1 << 20)
    for name in (name for name in SIZES if name in cfg):
        # fairseq's sinusoids divide by d/2 - 1.
        check_at_least(cfg, name, 4 if name == "hidden_dim" else 1)
    for name in (name for name in RATES if name in cfg):
        rate = getattr(cfg, name)
        if not 0 <= rate < 1:
            raise InputError(f"{flag(name)} is {rate}, it must lie in [0, 1)")
    if not getattr(cfg, "share_all_embeddings", False):
        return
    if task.source_dictionary != task.target_dictionary:
        raise InputError(
            "--share-all-embeddings needs one dictionary for source and target: preprocess with "
            "--joined-dictionary"
        )
    if cfg.decoder_embed_path not in (None, cfg.encoder_embed_path):
        raise InputError("--share-all-embeddings is not compatible with --decoder-embed-path")


def check_block(cfg: SizeConfig, block: Block, stack: str, splits: int = 1) -> None:
    """Raise an :class:`InputError` if a block does not divide the layers of its stack, or the heads
    the width of a split."""
    layers = getattr(cfg, f"{stack}_layers")
    if layers % len(block):
        raise InputError(
            f"{flag(f'{stack}_layers')} is {layers}, it must be a multiple of the searched block's "
            f"{len(block)} layers"
        )
    names = {name for layer in block for node in layer for name in node}
    width = cfg.hidden_dim // splits
    if width % cfg.attention_heads and any(name.startswith(HEADED) for name in names):
        what = f"{cfg.hidden_dim}/{splits} = {width} (--hidden-dim over the splits)"
        raise InputError(
            f"--attention-heads is {cfg.attention_heads}, which does not divide the {stack}'s "
            + (f"width of a split, {what}" if splits > 1 else f"width, --hidden-dim {width}")
        )


def check_at_least(cfg: NetworkConfig, name: str, least: int, most: int | None = LARGEST) -> None:
    """Raise an :class:`InputError` unless the integer option ``name`` is at least ``least`` and at
    most ``most``."""
    value = getattr(cfg, name)
    if value < least:
        raise InputError(f"{flag(name)} is {value}, it must be at least {least}")
    if most is not None and value > most:
        raise InputError(f"{flag(name)} is {value}, it must be at most {most}")


def parse_operations(text: str | None, stack: str, family: Family) -> tuple[str, ...]:
    """Return the candidates in a stack's comma-separated option, the family's for ``None``; raise
    an :class:`InputError` if a name is unknown or repeated."""
    if text is None:
        return family.candidates(stack)
    name, allowed = f"{stack}_operations", family.operations(stack)
    names = tuple(part.strip() for part in text.split(","))
    for candidate in names:
        if candidate not in allowed:
            raise InputError(
                f"{flag(name)} names {candidate!r}; it may name {family.describe_operations(stack)}"
            )
        if names.count(candidate) > 1:
            raise InputError(f"{flag(name)} names {candidate!r} more than once")
    return names
