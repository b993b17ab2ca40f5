"""Sizes at which a network has a given number of parameters."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Mapping
from math import lcm

from fairseq.models import ARCH_MODEL_REGISTRY, FairseqLanguageModel
from omegaconf import DictConfig
from scales import Options, arguments

from fairseq_dartsformer.errors import InputError
from fairseq_dartsformer.memory.planner import count_parameters, training_config
from fairseq_dartsformer.search_space.genotype import Genotype

TOLERANCE = 0.01  # relative
LEVERS = {"ffn_dim": 4, "embed_dim": 1}  # adjusted sizes, in hidden widths


def model_config(arch: str, sizes: Options, genotype: str | None) -> DictConfig:
    """fairseq's configuration of a model with shared embeddings, perhaps a language model.

    Args:
        arch: the architecture; ``sizes`` may name another.
        sizes: its options.
        genotype: text of the genotype, for a derived model.
    """
    options = {"arch": arch, **sizes, "genotype": genotype}
    arch = options.pop("arch")
    text_alone = issubclass(ARCH_MODEL_REGISTRY[arch], FairseqLanguageModel)
    share = "share_decoder_input_output_embed" if text_alone else "share_all_embeddings"
    return training_config(arch, arguments({**options, share: True}))


def match(
    arch: str, sizes: Mapping[str, int], genotype: str | None, vocabulary: int, target: int
) -> dict[str, int]:
    """The sizes nearest to the given ones at which the model has ``target`` parameters.

    Takes the nearest hidden width at which the model reaches the target by an ffn between half and
    twice its usual width or, if that fails (there may be no ffn), by an embedding between half and
    twice its given width.

    Args:
        arch, genotype: as for :func:`model_config`.
        sizes: with ``hidden_dim``, ``attention_heads`` and perhaps ``embed_dim``.
        vocabulary: symbols of the joint dictionary.
        target: number of parameters, reached to 1 %.

    Raises:
        InputError: no sizes reach the target.
    """
    usual, step = sizes["hidden_dim"], _step(sizes["attention_heads"], genotype)
    count = _counter(arch, sizes, genotype, vocabulary)
    wrong = 0  # sign of the direction away from the target
    for width in sorted(range(step, 3 * usual + 1, step), key=lambda d: abs(d - usual)):
        if (width - usual) * wrong > 0:
            continue
        for lever, ratio in LEVERS.items():
            if lever == "embed_dim" and lever not in sizes:
                continue
            trial = {**sizes, "hidden_dim": width, "ffn_dim": LEVERS["ffn_dim"] * width}
            middle = sizes.get(lever, ratio * width)
            trial[lever] = _nearest(count, trial, lever, middle, target)
            reached = count(trial)
            if abs(reached / target - 1) <= TOLERANCE:
                return trial
        wrong = 1 if reached > target else -1
    raise InputError(f"{arch} cannot have {target:,} parameters near {dict(sizes)}")


def match_width(
    arch: str, sizes: Mapping[str, int], genotype: str | None, vocabulary: int, target: int
) -> dict[str, int]:
    """The hidden width at which the model has ``target`` parameters; an ffn is four times as wide.

    Widths have steps, which the embedding makes up for: of the two widths, the one whose embedding
    is nearer to the given one.

    Args:
        arch, sizes, genotype, vocabulary, target: as for :func:`match`; ``sizes`` has
            ``embed_dim``.

    Raises:
        InputError: no width up to three times the given one reaches the target.
    """
    step = _step(sizes["attention_heads"], genotype)
    count = _counter(arch, sizes, genotype, vocabulary)
    trials = [
        {**sizes, "hidden_dim": width, "ffn_dim": LEVERS["ffn_dim"] * width}
        for width in range(step, 3 * sizes["hidden_dim"] + 1, step)
    ]
    above = bisect_left(trials, target, key=count)
    usual, near = sizes["embed_dim"], trials[max(0, above - 1) : above + 1]
    for trial in near:
        trial["embed_dim"] = _nearest(count, trial, "embed_dim", usual, target)
    for trial in sorted(near, key=lambda trial: abs(trial["embed_dim"] - usual)):
        if abs(count(trial) / target - 1) <= TOLERANCE:
            return trial
    raise InputError(f"{arch} cannot have {target:,} parameters near {dict(sizes)}")


def _counter(
    arch: str, sizes: Mapping[str, int], genotype: str | None, vocabulary: int
) -> Callable[[Mapping[str, int]], int]:
    """A function that counts the model's parameters at other sizes."""
    cfg = model_config(arch, sizes, genotype)

    def count(trial: Mapping[str, int]) -> int:
        cfg.model.update(trial)
        return count_parameters(cfg, vocabulary)

    return count


def _nearest(
    count: Callable[[Mapping[str, int]], int],
    trial: Mapping[str, int],
    lever: str,
    middle: int,
    target: int,
) -> int:
    """The value of a size, between half and twice ``middle``, that comes nearest to the target; the
    number of parameters is linear in it."""
    low, high = max(1, middle // 2), 2 * middle
    least, most = (count({**trial, lever: n}) for n in (low, high))
    share = (target - least) / (most - least) if most > least else 0.0
    return low + round((high - low) * min(max(share, 0.0), 1.0))


def _step(heads: int, genotype: str | None) -> int:
    """The number that the hidden width must be a multiple of."""
    if genotype is None:  # the Evolved Transformer, parts of which have twice the heads
        return 2 * heads
    record = Genotype.load(genotype)
    pooled = record.pooling is not None
    splits = [len(block[0]) for block in record.blocks.values()] if pooled else [1]
    return lcm(*(heads * n for n in splits))
