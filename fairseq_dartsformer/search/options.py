"""The options that search tasks add to those of their fairseq task."""

from dataclasses import dataclass
from typing import Any, List, Optional

from fairseq.dataclass import FairseqDataclass
from omegaconf import II

from ..models.config import option

# Of all strategies that learn alpha.
ALPHA_OPTIONS = ("warn_skip_share", "stop_skips", "stop_entropy", "stop_unchanged")


def _option(text: str) -> Any:
    """An option of some strategies: ``None`` unless the user gives it."""
    return option(None, text)


@dataclass
class SearchOptions(FairseqDataclass):
    """Options of a search; a task's dataclass inherits them along with its own."""

    search_strategy: str = option(
        "darts",
        "how the supernet is trained: darts alternates between weights and alpha; uniform_sampling "
        "trains the weights of one operation per search node, drawn for each update",
    )
    arch_fraction: Optional[float] = _option(
        "darts: fraction of the training sentences that alpha is updated on, drawn by --seed; the "
        "weights have the rest (default: 2.0/4.5)"
    )
    arch_subset: Optional[str] = _option(
        "darts: binarised split that alpha is updated on instead of --arch-fraction; the weights "
        "then have all training data"
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
    stop_unchanged: Optional[int] = _option(
        "with alpha: stop when the genotype has not changed for this many updates (default: never)"
    )
    seed: int = II("common.seed")
    log_interval: int = II("oc.select:common.log_interval,100")
    tensorboard_logdir: Optional[str] = II("oc.select:common.tensorboard_logdir,null")
    wandb_project: Optional[str] = II("oc.select:common.wandb_project,null")
    memory_efficient_fp16: bool = II("oc.select:common.memory_efficient_fp16,false")
    memory_efficient_bf16: bool = II("oc.select:common.memory_efficient_bf16,false")
    update_freq: List[int] = II("optimization.update_freq")
    # Commands that do not train have no optimizer.
    optimizer_name: Optional[str] = II("oc.select:optimizer._name,null")
