"""The operations of each node of a searched or derived block, and their modules."""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn

from ..errors import InputError, flag
from ..operations import OperationConfig, build_operation
from ..search_space.alpha import new_alpha
from ..search_space.families import FIXED_OPERATION, Family
from ..search_space.genotype import BUILTIN, Genotype
from ..search_space.mixed_op import MixedOp
from .architectures import fill_defaults, remember
from .config import CandidatesConfig, GenotypeConfig
from .option_checks import RATES, Block, check_at_least, parse_operations


def searched_blocks(
    cfg: CandidatesConfig, family: Family
) -> tuple[dict[str, Block], dict[str, nn.Parameter]]:
    """Return the searched block of each stack, and its alpha, `s × searched nodes × candidates`.

    Args:
        cfg: the model's options.
        family: the model's.

    Raises:
        InputError: s, the candidates or the norm are wrong.
    """
    fill_defaults(cfg, family.supernet)
    check_at_least(cfg, "search_layers", 1)
    family.check_norm(str(cfg.operation_norm), "--operation-norm")
    blocks, alphas = {}, {}
    for stack, count in family.searched_nodes(cfg).items():
        candidates = parse_operations(getattr(cfg, f"{stack}_operations"), stack, family)
        layer = family.with_fixed(stack, [candidates] * count, (FIXED_OPERATION,))
        blocks[stack] = [layer] * cfg.search_layers
        alphas[stack] = new_alpha(cfg.search_layers, count, len(candidates))
    return blocks, alphas


def derived_blocks(cfg: GenotypeConfig, family: Family) -> tuple[dict[str, Block], str | None]:
    """Read ``--genotype``, have the model's checkpoints carry its text, and take its norm.

    Returns:
        The block of each stack, with one operation in each node; and the pooling.

    Raises:
        InputError: the genotype is missing, wrong, of another family, or contradicted by an option.
    """
    fill_defaults(cfg, family.name)
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
    _check_agreement(cfg, genotype)
    remember(cfg, "genotype", genotype.to_json())
    cfg.operation_norm = genotype.norm
    blocks = {
        stack: [[(name,) for name in layer] for layer in block]
        for stack, block in genotype.blocks.items()
    }
    return blocks, genotype.pooling


def _check_agreement(cfg: GenotypeConfig, genotype: Genotype) -> None:
    decided = [("search_layers", len(block)) for block in genotype.blocks.values()]
    decided.append(("operation_norm", genotype.norm))
    names = ("encoder_splits", "decoder_splits", "pooling")
    decided += [(name, getattr(genotype, name)) for name in names if name in cfg]
    for name, value in decided:
        given = getattr(cfg, name)
        if given is not None and str(given) != str(value):
            raise InputError(
                f"{flag(name)} is {given}, the genotype says {value}: leave the option out"
            )


def build_layers(
    cfg: CandidatesConfig | GenotypeConfig, block: Block, stack: str, channels: int
) -> Iterator[list[MixedOp]]:
    """Build the nodes of each layer of a stack; no two layers share weights.

    Args:
        cfg: sizes, rates and norm.
        block: the operations of the layers of a block, which the stack repeats.
        stack: ``"encoder"`` or ``"decoder"``.
        channels: width of a node.
    """
    operation_cfg = OperationConfig(
        channels=channels,
        encoder_dim=cfg.hidden_dim,
        ffn_dim=cfg.ffn_dim,
        attention_heads=cfg.attention_heads,
        causal=stack == "decoder",
        norm=str(cfg.operation_norm),
        **{rate: getattr(cfg, rate) for rate in RATES},
    )
    for i in range(getattr(cfg, f"{stack}_layers")):
        layer = block[i % len(block)]
        yield [
            MixedOp((build_operation(name, operation_cfg) for name in names), names)
            for names in layer
        ]
