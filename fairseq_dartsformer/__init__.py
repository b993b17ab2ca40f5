"""DARTSformer for fairseq: memory-efficient differentiable Transformer architecture search.

Importing the package registers everything that ``--user-dir`` users name, mends fairseq where
:mod:`.compat` says so, and has bad input reported in one line.
"""

from . import compat, criterions, errors, models, optim, tasks  # noqa: F401

errors.install_excepthook()
compat.apply()
