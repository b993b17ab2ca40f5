"""A plugin on top of DARTSformer's: an operation, a strategy and a task (``--user-dir``)."""

from . import average, every_kth, repair  # noqa: F401  (registers all)
