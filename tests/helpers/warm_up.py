"""Prepares a process for being forked; importing this module does it.

The server of :mod:`helpers.fairseq_commands` imports it last. Its forks then find the caches of
fairseq's first configuration full, and their garbage collector does not walk through the modules,
which would copy every page that they share with the server.
"""

import gc

from fairseq import options
from fairseq.dataclass.utils import convert_namespace_to_omegaconf

arguments = ["data", "--arch", "transformer", "--source-lang", "aa", "--target-lang", "bb"]
convert_namespace_to_omegaconf(
    options.parse_args_and_arch(options.get_training_parser(), arguments)
)
gc.collect()
gc.freeze()
