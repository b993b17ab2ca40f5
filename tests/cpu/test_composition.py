"""Commands that the tests run get the configuration that Hydra composes, though from a cache."""

from pathlib import Path

import pytest
from fairseq import options
from fairseq.dataclass import utils
from helpers import fairseq_commands as commands
from helpers import warm_up
from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

KINDS = {
    "search": [*commands.SEARCH, "--arch-penalty", "beta:1,parameters:0.1", "--fp16"],
    "sampling": commands.SAMPLING,
    "derived": [*commands.DERIVED, "--adam-betas", "(0.9, 0.98)", "--update-freq", "1,2"],
    "Evolved Transformer": [*commands.EVOLVED, "--lr", "1e-3,2e-3"],
    "text": [*commands.TEXT_SEARCH, "--tensorboard-logdir", "a folder/[1]"],
}


@pytest.mark.parametrize("kind", KINDS)
def test_cached_configurations_are_hydras(monkeypatch, kind):
    """Without any of the caches; and all of these configurations do come from them."""
    arguments = commands.training(KINDS[kind], Path("data"), Path("folder"))
    given = options.parse_args_and_arch(options.get_training_parser(), arguments)
    compose = warm_up.compose

    def only_groups(name, overrides, **how):
        assert not [text for text in overrides if "." in text.partition("=")[0]]
        return compose(name, overrides=overrides, **how)

    monkeypatch.setattr(warm_up, "compose", only_groups)
    cached = utils.convert_namespace_to_omegaconf(given)
    monkeypatch.setattr(utils, "compose", compose)
    monkeypatch.setattr(OverridesParser, "parse_rule", warm_up.parse_rule)
    monkeypatch.delattr(ConfigStore, "__deepcopy__")
    hydras = utils.convert_namespace_to_omegaconf(given)
    assert repr(OmegaConf.to_container(cached)) == repr(OmegaConf.to_container(hydras))
