"""Prepares a process for being forked; importing this module does it.

The server of :mod:`helpers.fairseq_commands` imports it last. Its forks then find the caches of
the first configurations full, and their garbage collector does not walk through the modules, which
would copy every page that they share with the server.

A configuration takes Hydra half a second, as long as all else in a short training. Most of that is
for parsing some 300 options, most of them the same in every run, for copies of the store of all
known configurations, which are the same objects here, and for the options' defaults, which depend
on the task, the architecture and the like alone.
"""

import copy
import functools
import gc
from pathlib import Path
from typing import Any

from fairseq import options
from fairseq.dataclass import utils
from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf

from helpers import fairseq_commands as commands

parse_rule, compose = OverridesParser.parse_rule, utils.compose


@functools.cache
def parsed(text: str, rule: str) -> object:
    return parse_rule(OverridesParser.create(), text, rule)


@functools.cache
def defaults(groups: tuple[str, ...]) -> DictConfig:
    return compose("config", overrides=list(groups), strict=False)


def compose_from_cache(name: str, overrides: list[str], **how: Any) -> DictConfig:
    """Hydra's configuration; what cannot be one is left to Hydra, which reports it."""
    groups = tuple(text for text in overrides if "." not in text.partition("=")[0])
    parser = OverridesParser.create()
    try:
        cfg = copy.deepcopy(defaults(groups))
        OmegaConf.set_struct(cfg, True)
        for text in overrides:
            if text not in groups:
                option = parser.parse_override(text)
                OmegaConf.update(cfg, option.key_or_group, option.value(), merge=True)
        OmegaConf.set_struct(cfg, False)
    except Exception:
        return compose(name, overrides=overrides, **how)
    return cfg


ConfigStore.__deepcopy__ = lambda self, memo: self
OverridesParser.parse_rule = lambda self, s, rule_name: copy.copy(parsed(s, rule_name))
utils.compose = compose_from_cache
for kind in (
    commands.SEARCH,
    commands.DARTS,
    commands.SAMPLING,
    commands.DERIVED,
    commands.DERIVED_DARTS,
    commands.EVOLVED,
    commands.TEXT_SEARCH,
    commands.TEXT_DERIVED,
):
    arguments = commands.training(kind, Path("data"), Path("folder"))
    arguments.remove("--user-dir")  # it is known
    arguments.remove(commands.PLUGIN)
    given = options.parse_args_and_arch(options.get_training_parser(), arguments)
    utils.convert_namespace_to_omegaconf(given)
given = options.parse_args_and_arch(options.get_generation_parser(), ["data", "--path", "model"])
utils.convert_namespace_to_omegaconf(given)
gc.collect()
gc.freeze()
