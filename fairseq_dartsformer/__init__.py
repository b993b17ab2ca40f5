"""DARTSformer for fairseq: memory-efficient differentiable Transformer architecture search.

Importing the package registers everything that ``--user-dir`` users name; nothing else happens.
"""

from . import compat, errors, models, optim, tasks  # noqa: F401

errors.install_excepthook()
compat.apply()
