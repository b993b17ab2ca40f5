"""The command in a report repeats the training."""

import pytest
from fairseq import options
from fairseq.dataclass.utils import convert_namespace_to_omegaconf
from helpers.fairseq_commands import DARTS, DERIVED, SAMPLING, SEARCH, raw_checkpoint, train

from fairseq_dartsformer.report.command import OF_PROCESS, command_line, training_options


@pytest.mark.parametrize(
    ("kind", "given"),
    [
        (SEARCH, "--clip-norm 0.5 --update-freq 2 --arch-fraction 0.3 --no-epoch-checkpoints"),
        (
            SEARCH,
            "--hidden-dim 48 --ffn-dim 40 --share-all-embeddings --arch dartsformer_search_tiny",
        ),
        (DARTS, "--seed 7 --adam-betas (0.8,0.9)"),
        (SAMPLING, "--max-tokens 300 --patience 3 --keep-last-epochs 2"),
        (DERIVED, "--backprop reconstruct"),
    ],
    ids=["search", "sizes", "darts", "sampling", "derived"],
)
def test_command_repeats_the_training(data, tmp_path, kind, given):
    """fairseq makes of the command what it made of the original one."""
    train(kind, data, tmp_path, *given.split(), *"--max-update 2 --log-interval 7".split())
    cfg = raw_checkpoint(tmp_path)["cfg"]
    found = training_options(cfg)
    words = [word for pair in found.items() for word in pair if word is not None]
    parser = options.get_training_parser()
    again = convert_namespace_to_omegaconf(options.parse_args_and_arch(parser, [str(data), *words]))
    for group in (
        "task",
        "optimizer",
        "lr_scheduler",
        "criterion",
        "optimization",
        "dataset",
        "checkpoint",
        "common",
        "distributed_training",
    ):
        left = OF_PROCESS | {"distributed_init_method", "_name"}
        for key in set(cfg[group]) - left:
            assert again[group][key] == cfg[group][key], f"{group}.{key}"
    # The genotype stands as its text, in place of its file's name.
    assert {k: v for k, v in again.model.items() if k in cfg["model"]} == cfg["model"]
    assert command_line(str(data), found).startswith(f"fairseq-train {data} \\\n  --task ")
    usual = {"--seed", "--max-tokens", "--weight-decay"}
    assert all(option in given for option in usual & found.keys())
