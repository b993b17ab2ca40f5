"""DARTSformer for fairseq: memory-efficient differentiable Transformer architecture search.

Importing the package registers the models, tasks, criterion and optimizer that ``--user-dir`` users
name, applies the patches that :mod:`.fairseq_patches` lists, and reports bad input in one line.
"""

from . import criterions, errors, fairseq_patches, models, optim, tasks  # noqa: F401

errors.install_excepthook()
fairseq_patches.apply()
