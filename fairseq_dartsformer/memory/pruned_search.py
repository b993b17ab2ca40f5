"""The memory of a search after candidates have been pruned."""

from copy import deepcopy

import torch
from fairseq.data.data_utils import numpy_seed
from omegaconf import DictConfig

from ..reversible.seeding import preserved_generators
from ..search.prune_then_search import PruneThenSearch
from ..search.registry import STRATEGIES
from .planner import LENGTH, plan_memory


def plan_pruned(cfg: DictConfig, vocabulary: int, strategy: str, share: float) -> int:
    """Plan the peak of a search after it has been pruned, in bytes.

    Args:
        cfg: fairseq's configuration of the search; unchanged.
        vocabulary: symbols of the larger dictionary.
        strategy: the one that searches what remains.
        share: of each node's candidates that remain, those with the most parameters.
    """
    cfg = deepcopy(cfg)
    cfg.task.search_strategy = strategy
    for option in PruneThenSearch.own:
        if option not in STRATEGIES[strategy].options:
            cfg.task[option] = None
    cfg.model.check_reconstruction = 0
    tokens, sentences = cfg.dataset.max_tokens, cfg.dataset.batch_size
    length = cfg.task.get("tokens_per_sample", LENGTH)  # of a window, or of a sentence
    length = min(length, tokens or length)
    fitting = sentences if tokens is None else tokens // length
    # A draw on fake tensors takes random numbers.
    with preserved_generators(torch.device("cpu")), numpy_seed(cfg.common.seed):
        return plan_memory(cfg, vocabulary, min(fitting, sentences or fitting), length, share).total
