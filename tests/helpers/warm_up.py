"""Prepares a process for being forked; importing this module does it.

The server of :mod:`helpers.fairseq_commands` imports it last. Its forks then find the caches of
fairseq's first configuration full, and their garbage collector does not walk through the modules,
which would copy every page that they share with the server.

A configuration takes Hydra half a second, as long as all else in a short training. Half of that
is for parsing some 300 options, most of them the same in every run, and for a copy of all known
configurations, which a process that composes once does not need.
"""

import copy
import functools
import gc
from types import SimpleNamespace

from fairseq import options
from fairseq.dataclass.utils import convert_namespace_to_omegaconf
from hydra._internal import config_repository
from hydra.core.override_parser.overrides_parser import OverridesParser

parse_rule = OverridesParser.parse_rule


@functools.cache
def parsed(text: str, rule: str) -> object:
    return parse_rule(OverridesParser.create(), text, rule)


OverridesParser.parse_rule = lambda self, s, rule_name: copy.copy(parsed(s, rule_name))
arguments = ["data", "--arch", "transformer", "--source-lang", "aa", "--target-lang", "bb"]
convert_namespace_to_omegaconf(
    options.parse_args_and_arch(options.get_training_parser(), arguments)
)
config_repository.copy = SimpleNamespace(deepcopy=lambda repository: repository)
gc.collect()
gc.freeze()
