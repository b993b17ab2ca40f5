"""The commands, one a file."""

import logging
import warnings

# Importing fairseq turns on the notes of all libraries; the commands import more of them.
for name in ("", "fairseq", "hydra"):
    logging.getLogger(name).setLevel(logging.WARNING)
# fairseq calls hydra in ways that hydra has renamed since; users cannot change that.
warnings.filterwarnings("ignore", r"(?is).*(hydra|version_base)", UserWarning)
