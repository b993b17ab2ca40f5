"""A check that all workers of a search have the same alpha."""

import torch
from fairseq.distributed import utils as distributed_utils
from torch import nn

from ..errors import WorkerError
from ..search_space.levels import ALPHA, level_of


def compare_alpha(model: nn.Module, occasion: str) -> None:
    """Raise a :class:`WorkerError` on all workers if alpha differs in a bit; all must call this.

    Nothing else detects a difference: each worker would continue with its own alpha, and the first
    worker's would be saved. The check costs one small exchange and, on a GPU, one synchronisation.
    The error names the ``occasion``.
    """
    if not torch.distributed.is_initialized():
        return
    group = distributed_utils.get_data_parallel_group()
    alpha = [p.detach().flatten() for p in model.parameters() if level_of(p) == ALPHA]
    mine = torch.cat(alpha).view(torch.uint8)
    gathered = [torch.empty_like(mine) for _ in range(distributed_utils.get_world_size(group))]
    torch.distributed.all_gather(gathered, mine, group=group)
    ranks = (torch.stack(gathered) != gathered[0]).any(1).nonzero().flatten().tolist()
    if ranks:
        names = " and ".join(f"rank {rank}" for rank in ranks)
        raise WorkerError(
            f"{names} {'has' if len(ranks) == 1 else 'have'} another alpha than rank 0 {occasion}: "
            "check that all workers have the same options, and that the strategy does the same on "
            "all of them"
        )
