"""DARTSformer for fairseq: memory-efficient differentiable Transformer architecture search.

Importing the package registers everything that ``--user-dir`` users name, mends fairseq where
:mod:`.compat` says so, has searches watched, and bad input reported in one line.
"""

from . import compat, criterions, errors, models, optim, tasks, watching  # noqa: F401

errors.install_excepthook()
compat.apply()
watching.install()
