"""The options that search tasks add to those of their fairseq task."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, List, Optional

from fairseq.dataclass import FairseqDataclass
from fairseq.distributed.utils import get_global_rank
from omegaconf import II

from ..errors import InputError, flag
from ..models.config import option
from ..operations import OPERATIONS_BY_STACK, describe_operations

logger = logging.getLogger(__name__)

# Of the monitor, for every strategy that learns alpha.
MONITOR_OPTIONS = (
    *("warn_skip_share", "stop_skips", "stop_entropy", "stop_unchanged"),
    "derive_exclude",
)
# Of this package's strategies that learn alpha.
ALPHA_OPTIONS = ("arch_start", "arch_penalty", "latency_table", "latency_target", "arch_noise")
# Of those that update alpha on data of its own.
SPLIT_OPTIONS = ("arch_fraction", "arch_subset", "arch_interval", "stop_eigenvalue")


def read_names(text: str | None, name: str) -> tuple[str, ...]:
    """Read a comma-separated list of operations, given by the option ``name``; raise an
    :class:`InputError` if one is unknown."""
    found = tuple(filter(None, map(str.strip, (text or "").split(","))))
    for operation in found:
        if operation not in OPERATIONS_BY_STACK["decoder"]:
            expected = f"expected {describe_operations('decoder')}"
            raise InputError(f"{name}: {operation!r} is not an operation: {expected}")
    return found


def read_option(
    cfg: Mapping[str, Any], name: str, default: Any, fits: Callable[[Any], bool], expected: str
) -> Any:
    """Return an option's value, ``default`` if it was not given; raise an :class:`InputError` if it
    does not fit, where ``expected`` completes "it must"."""
    value = default if cfg[name] is None else cfg[name]
    if value is not None and not fits(value):
        raise InputError(f"{flag(name)} is {value}, it must {expected}")
    return value


def at_least(cfg: Mapping[str, Any], name: str, least: int, default: Any = None) -> Any:
    """As :func:`read_option`, for a number from ``least``."""
    return read_option(cfg, name, default, lambda v: v >= least, f"be at least {least}")


def one_of(cfg: Mapping[str, Any], name: str, choices: Sequence[str]) -> str:
    """As :func:`read_option`; the first choice is the default."""
    expected = f"be one of {', '.join(choices)}"
    return str(read_option(cfg, name, choices[0], lambda v: str(v) in choices, expected))


def stop_after(cfg: "SearchOptions", updates: int, reason: str) -> None:
    """End the search; all workers must call this after the same update. fairseq then validates,
    saves and ends."""
    if get_global_rank() == 0:
        logger.info(f"stopping the search: {reason}")
    cfg._get_root().optimization.max_update = updates


def _option(text: str) -> Any:
    """An option of some strategies: ``None`` unless the user gives it."""
    return option(None, text)


@dataclass
class SearchOptions(FairseqDataclass):
    """Options of a search; a task's dataclass inherits them along with its own."""

    search_strategy: str = option(
        "darts",
        "how the supernet is trained: darts, single_level, snas, dsnas, gdas, drnas, idarts, "
        "darts_prime, unas, sequence_reward, prune_then_search, or uniform_sampling, which does "
        "not learn alpha",
    )
    arch_fraction: Optional[float] = _option(
        "bilevel: fraction of the training sentences, or documents of a text, that alpha is "
        "updated on, drawn by --seed; the weights have the rest (default: 2.0/4.5)"
    )
    arch_subset: Optional[str] = _option(
        "bilevel: binarised split that alpha is updated on instead of --arch-fraction; the "
        "weights then have all training data"
    )
    arch_interval: Optional[int] = _option(
        "bilevel: updates of the weights to one of alpha (default: 4 for idarts, otherwise 1)"
    )
    arch_start: Optional[int] = _option(
        "with alpha: updates before alpha first moves, in which only the weights are trained "
        "(default: 0)"
    )
    arch_penalty: Optional[str] = _option(
        "with alpha: penalties that are added to alpha's loss, as NAME:WEIGHT[,NAME:WEIGHT]: "
        "see the documentation of strategies (default: none)"
    )
    latency_table: Optional[str] = _option(
        "with alpha: latencies of the operations, a file that dartsformer-latency wrote, for "
        "--arch-penalty latency:WEIGHT (default: none)"
    )
    latency_target: Optional[float] = _option(
        "with alpha: milliseconds that the derived genotype shall take, for "
        "--arch-penalty latency:WEIGHT (default: none)"
    )
    arch_temperature: Optional[str] = _option(
        "snas, gdas, unas: temperature of the Gumbel-softmax, as FIRST,LAST or one number "
        "(default: 1,0.03 for snas, 10,0.1 for gdas, 0.4 for unas)"
    )
    prune_at: Optional[int] = _option(
        "drnas: update after which candidates are pruned (default: never); prune_then_search: "
        "update at which pruning ends (default: a third of --max-update)"
    )
    prune_keep: Optional[float] = _option(
        "drnas, prune_then_search: share of each node's candidates that pruning keeps "
        "(default: 0.5)"
    )
    prune_memory: Optional[float] = _option(
        "prune_then_search: prune until the search that follows fits this memory in GB, as "
        "dartsformer-memory plans it, instead of to a share (default: --prune-keep)"
    )
    prune_rounds: Optional[int] = _option(
        "prune_then_search: rounds in which candidates are pruned (default: 4)"
    )
    then_strategy: Optional[str] = _option(
        "prune_then_search: strategy that searches what remains (default: darts)"
    )
    neumann_terms: Optional[int] = _option(
        "idarts: products with the Hessian in the Neumann series (default: 2)"
    )
    neumann_rate: Optional[float] = _option(
        "idarts: rate of the gradient descent that the Neumann series unrolls (default: 0.01)"
    )
    neumann_radius: Optional[float] = _option(
        "idarts: length of the step of finite differences (default: 0.1)"
    )
    prime_activation: Optional[str] = _option(
        "darts_prime: softmax or clamp, the bounded activation (default: softmax)"
    )
    prime_schedule: Optional[str] = _option(
        "darts_prime: dynamic, or fixed by --arch-interval (default: dynamic)"
    )
    prime_regularizer: Optional[str] = _option(
        "darts_prime: proximity, admm or none (default: proximity)"
    )
    unas_reward: Optional[str] = _option(
        "unas: what the reinforcement term is of: loss, or bleu or chrf of sampled translations "
        "(default: loss)"
    )
    reward: Optional[str] = _option("sequence_reward: bleu or chrf of a sentence (default: bleu)")
    reward_weight: Optional[float] = _option(
        "sequence_reward: share of the reward's loss beside the cross entropy (default: 0.5)"
    )
    arch_noise: Optional[float] = _option(
        "with alpha: bound of the uniform noise on the mixing weights in updates of the weights "
        "alone, reached linearly at --max-update (SDARTS-RS; default: none)"
    )
    derive_exclude: Optional[str] = _option(
        "with alpha: operations, comma-separated, that the monitor and the report never choose, "
        "nor dartsformer-derive without its own --exclude (default: none)"
    )
    warn_skip_share: Optional[float] = _option(
        "with alpha: warn when identity or zero is the best operation of more than this share of "
        "the search nodes (default: 0.5)"
    )
    stop_skips: Optional[int] = _option(
        "with alpha: stop when identity or zero is the best operation of this many search nodes "
        "(default: never)"
    )
    stop_entropy: Optional[float] = _option(
        "with alpha: stop when the mean entropy of the mixing weights, in nats, has fallen to this "
        "value (default: never)"
    )
    stop_eigenvalue: Optional[float] = _option(
        "bilevel: stop when the dominant eigenvalue of alpha's loss, measured every "
        "--log-interval, has grown so that this share of it exceeds the value five before "
        "(RobustDARTS: 0.75; default: never)"
    )
    stop_unchanged: Optional[int] = _option(
        "with alpha: stop when the genotype has not changed for this many updates (default: never)"
    )
    seed: int = II("common.seed")
    max_update: int = II("oc.select:optimization.max_update,0")
    log_interval: int = II("oc.select:common.log_interval,100")
    tensorboard_logdir: Optional[str] = II("oc.select:common.tensorboard_logdir,null")
    wandb_project: Optional[str] = II("oc.select:common.wandb_project,null")
    fp16: bool = II("oc.select:common.fp16,false")
    bf16: bool = II("oc.select:common.bf16,false")
    amp: bool = II("oc.select:common.amp,false")
    memory_efficient_fp16: bool = II("oc.select:common.memory_efficient_fp16,false")
    memory_efficient_bf16: bool = II("oc.select:common.memory_efficient_bf16,false")
    update_freq: List[int] = II("optimization.update_freq")
    # Commands that do not train have no optimizer.
    optimizer_name: Optional[str] = II("oc.select:optimizer._name,null")
