"""Whether the workers of a search have the same alpha."""

import torch
from fairseq.distributed import utils as distributed_utils
from torch import nn

from ..errors import WorkerError
from ..search_space.levels import ALPHA, level_of


def compare_alpha(model: nn.Module, occasion: str) -> None:
    """Compare all workers' alpha, bit by bit; every worker must call this.

    Nothing else would tell: each worker goes on with an alpha of its own, and the first one's is
    saved. It takes one small exchange, and on a GPU one wait for what it computes.

    Args:
        model: the supernet, perhaps within a wrapper of workers.
        occasion: when this is, for the error.

    Raises:
        WorkerError: they differ; on all workers alike.
    """
    if not torch.distributed.is_initialized():
        return
    group = distributed_utils.get_data_parallel_group()
    alpha = [p.detach().flatten() for p in model.parameters() if level_of(p) == ALPHA]
    mine = torch.cat(alpha).view(torch.uint8)
    all_of_them = [torch.empty_like(mine) for _ in range(distributed_utils.get_world_size(group))]
    torch.distributed.all_gather(all_of_them, mine, group=group)
    differs = torch.stack([(other != all_of_them[0]).any() for other in all_of_them])
    ranks = differs.nonzero().flatten().tolist()
    if ranks:
        name = f"rank {ranks[0]} has" if len(ranks) == 1 else f"ranks {_join(ranks)} have"
        raise WorkerError(
            f"{name} another alpha than rank 0 {occasion}: look for options in which the workers "
            "differ, a strategy that does not do the same on all, or a fault of their machines"
        )


def _join(ranks: list[int]) -> str:
    return f"{', '.join(map(str, ranks[:-1]))} and {ranks[-1]}"
