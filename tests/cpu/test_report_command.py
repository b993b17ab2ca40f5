"""The command in a report repeats the training."""

from typing import Any

import pytest
from fairseq import options
from fairseq.dataclass.utils import convert_namespace_to_omegaconf
from helpers.fairseq_commands import DARTS, DERIVED, SAMPLING, SEARCH, TEXT_SEARCH, training
from omegaconf import OmegaConf

from fairseq_dartsformer.report.command import OF_PROCESS, command_line, training_options

GROUPS = "optimizer lr_scheduler criterion optimization dataset checkpoint common task".split()


def config(words: list[str]) -> dict[str, Any]:
    """What fairseq makes of the arguments of ``fairseq-train``, and saves in a checkpoint."""
    args = options.parse_args_and_arch(options.get_training_parser(), words)
    return OmegaConf.to_container(
        convert_namespace_to_omegaconf(args), resolve=True, enum_to_str=True
    )


@pytest.mark.parametrize(
    ("kind", "given"),
    [
        (SEARCH, "--clip-norm 0.5 --update-freq 2 --arch-fraction 0.3 --no-epoch-checkpoints"),
        (SEARCH, "--ffn-dim 40 --share-all-embeddings --arch dartsformer_search_tiny"),
        (DARTS, "--seed 7 --adam-betas (0.8,0.9)"),
        (SAMPLING, "--max-tokens 300 --patience 3 --keep-last-epochs 2"),
        (DERIVED, "--backprop reconstruct"),
        (TEXT_SEARCH, "--decoder-splits 3 --add-bos-token"),
    ],
    ids=["search", "sizes", "darts", "sampling", "derived", "text"],
)
def test_command_repeats_the_training(tmp_path, kind, given):
    """fairseq makes of the command what it made of the original one."""
    cfg = config(training(kind, tmp_path, tmp_path, *given.split(), "--max-update", "2"))
    found = training_options(cfg)
    again = config([str(tmp_path), *(word for pair in found.items() for word in pair if word)])
    for group in (*GROUPS, "distributed_training"):
        for key in set(cfg[group]) - OF_PROCESS - {"distributed_init_method", "_name"}:
            assert again[group][key] == cfg[group][key], f"{group}.{key}"
    # The genotype stands as its text, in place of its file's name.
    assert {k: v for k, v in again["model"].items() if k in cfg["model"]} == cfg["model"]
    assert command_line("DATA", found).startswith("fairseq-train DATA \\\n  --task ")
    usual = {"--seed", "--max-tokens", "--weight-decay"}
    assert all(option in given for option in usual & found.keys())
