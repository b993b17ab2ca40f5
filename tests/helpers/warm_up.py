"""Prepares a process for being forked; importing this module does it.

The server of :mod:`helpers.fairseq_commands` imports it last. Its forks then find the caches of
fairseq's first configuration full, and their garbage collector does not walk through the modules,
which would copy every page that they share with the server.

A configuration takes Hydra half a second, as long as all else in a short training. Half of that
is for parsing some 300 options, most of them the same in every run, and for copies of the store of
all known configurations, which are the same objects here.
"""

import copy
import functools
import gc

from fairseq import options
from fairseq.dataclass.utils import convert_namespace_to_omegaconf
from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser

parse_rule = OverridesParser.parse_rule


@functools.cache
def parsed(text: str, rule: str) -> object:
    return parse_rule(OverridesParser.create(), text, rule)


ConfigStore.__deepcopy__ = lambda self, memo: self
OverridesParser.parse_rule = lambda self, s, rule_name: copy.copy(parsed(s, rule_name))
arguments = ["data", "--arch", "transformer", "--source-lang", "aa", "--target-lang", "bb"]
convert_namespace_to_omegaconf(
    options.parse_args_and_arch(options.get_training_parser(), arguments)
)
gc.collect()
gc.freeze()
