"""Searched and derived blocks: which operations each node has, and the modules they are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from torch import nn

from ..errors import InputError, flag
from ..operations import OperationConfig, build_operation
from ..search_space.alpha import new_alpha
from ..search_space.families import FIXED_OPERATION, Family
from ..search_space.genotype import BUILTIN, Genotype
from ..search_space.mixed_op import MixedOp
from .architectures import remember
from .config import CandidatesConfig, GenotypeConfig, SizeConfig
from .option_checks import Block, check_at_least, parse_operations


def searched_block(cfg: CandidatesConfig, family: Family, stack: str, nodes: int) -> Block:
    """A block of s layers, each of so many search nodes and the fixed node that its family has.

    Raises:
        InputError: s or the candidates are wrong.
    """
    check_at_least(cfg, "search_layers", 1)
    candidates = parse_operations(getattr(cfg, f"{stack}_operations"), stack)
    layer = family.with_fixed(stack, [candidates] * nodes, (FIXED_OPERATION,))
    return [layer] * cfg.search_layers


def alpha_of(block: Block, family: Family, stack: str) -> nn.Parameter:
    """alpha for a searched block, `s × searched nodes × candidates`."""
    (layer, *_) = block
    searched = [n for k, n in enumerate(layer) if not family.is_fixed(stack, k, len(layer))]
    return new_alpha(len(block), len(searched), len(searched[0]))


def genotype_of(cfg: GenotypeConfig, family: Family) -> Genotype:
    """The genotype that a derived model is given; its checkpoints will carry the text.

    Raises:
        InputError: there is none, it is wrong, or of another family.
    """
    if cfg.genotype is None:
        builtin = [name for name, g in BUILTIN.items() if g.family == family.name]
        known = f" or a built-in name ({', '.join(builtin)})" if builtin else ""
        raise InputError(f"--genotype is missing: give a JSON file{known}")
    genotype = Genotype.load(cfg.genotype)
    if genotype.family != family.name:
        raise InputError(
            f"--genotype is of the family {genotype.family}, it must be of {family.name}: "
            f"this one is for --arch {genotype.family}"
        )
    remember(cfg, "genotype", genotype.to_json())
    return genotype


def derived_block(layers: Sequence[Sequence[str]]) -> Block:
    """A genotype's block, one operation a node."""
    return [[(name,) for name in layer] for layer in layers]


def check_agreement(cfg: GenotypeConfig, decided: dict[str, Sequence[object]]) -> None:
    """Check that options explicitly given say what the genotype says.

    Args:
        cfg: the model's options.
        decided: for each option what the genotype says, for either stack where they may differ.

    Raises:
        InputError: one contradicts it.
    """
    for name, values in decided.items():
        given = getattr(cfg, name)
        for value in values:
            if given is not None and str(given) != str(value):
                raise InputError(
                    f"{flag(name)} is {given}, the genotype says {value}: leave the option out"
                )


def build_layers(
    cfg: SizeConfig, block: Block, stack: str, channels: int
) -> Iterator[list[MixedOp]]:
    """The nodes of each layer of a stack of identical blocks; no two layers share weights.

    Args:
        cfg: sizes and rates.
        block: what is repeated.
        stack: ``"encoder"`` or ``"decoder"``.
        channels: width of a node.
    """
    operation_cfg = OperationConfig(
        channels=channels,
        encoder_dim=cfg.hidden_dim,
        ffn_dim=cfg.ffn_dim,
        attention_heads=cfg.attention_heads,
        causal=stack == "decoder",
        dropout=cfg.dropout,
        attention_dropout=cfg.attention_dropout,
        activation_dropout=cfg.activation_dropout,
        weight_dropout=cfg.weight_dropout,
    )
    for i in range(getattr(cfg, f"{stack}_layers")):
        layer = block[i % len(block)]
        yield [MixedOp(build_operation(name, operation_cfg) for name in names) for names in layer]
