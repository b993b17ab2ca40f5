"""Parts of numpy that fairseq still uses, and that numpy 2 no longer has."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy

from .patch import patch


@patch("fairseq.data.token_block_dataset:TokenBlockDataset._build_slice_indices", "cannot start")
def _with_numpy_2(build: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Symptom: ``--sample-break-mode eos``, and generation by a language model, end in ``module
    'numpy' has no attribute 'compat'``. Cause: fairseq names an integer type that numpy 2 has under
    another name. Can go when fairseq names numpy's own."""
    if hasattr(numpy, "compat"):
        return build(*args, **kwargs)
    numpy.compat = SimpleNamespace(long=int)
    try:
        return build(*args, **kwargs)
    finally:
        del numpy.compat
