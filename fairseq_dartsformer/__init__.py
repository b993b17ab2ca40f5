"""DARTSformer for fairseq: memory-efficient differentiable Transformer architecture search.

Importing the package registers the models, tasks, criterion and optimizer that ``--user-dir`` users
name, applies the patches that :mod:`.fairseq_patches` lists, and reports bad input in one line.
"""

from . import criterions, errors, fairseq_patches, models, optim, tasks  # noqa: F401
from .memory.pruned_search import plan_pruned
from .search.prune_then_search import PruneThenSearch

errors.install_excepthook()
fairseq_patches.apply()
# The search stands below the planner and cannot import it.
PruneThenSearch.planner = staticmethod(plan_pruned)
