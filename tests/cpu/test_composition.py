"""Commands that the tests run get the configuration that Hydra composes, though from a cache."""

from pathlib import Path

import pytest
from fairseq import options
from fairseq.dataclass import utils
from helpers import fairseq_commands as commands
from helpers import warm_up
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
    arguments = commands.training(KINDS[kind], Path("data"), Path("folder"))
    given = options.parse_args_and_arch(options.get_training_parser(), arguments)
    found = []
    for compose in (warm_up.compose_from_cache, warm_up.compose):
        monkeypatch.setattr(utils, "compose", compose)
        cfg = utils.convert_namespace_to_omegaconf(given)
        found.append(repr(OmegaConf.to_container(cfg)))
    assert found[0] == found[1]
