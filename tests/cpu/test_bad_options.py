"""Options that our models and tasks refuse: one line names the option at fault.

The patterns are of the line; without one, it must give the option and its value.
"""

import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from helpers.attempts import Outcome, attempt, contents
from helpers.fairseq_commands import (
    DARTS,
    DERIVED,
    EVOLVED,
    PLUGIN,
    SAMPLING,
    SEARCH,
    TIMEOUT,
    train,
    training,
)

from fairseq_dartsformer.search_space.genotype import BUILTIN

ENCODER_CANDIDATES = "conv_3, conv_5, conv_7, conv_11, dynamic_conv_3, "
REORDERED = "conv_3,dynamic_conv_3,self_attention,identity,ffn"

# By training: options, and a pattern if need be. {search}, {derived}, {evolved}: checkpoints.
SEARCHES = [
    # sizes
    ("--hidden-dim 25", "--hidden-dim is 25, .* encoder's 2 splits"),
    ("--hidden-dim 28", "--hidden-dim is 28, .* decoder's 3 splits .* multiple of 6"),
    ("--hidden-dim 2 --decoder-splits 2", "--hidden-dim is 2, it must be at least 4"),
    ("--attention-heads 5", "--attention-heads is 5, .* encoder's .* 24/2 = 12"),
    ("--attention-heads 3", "--attention-heads is 3, .* decoder's .* 24/3 = 8"),
    ("--encoder-splits 1", None),
    ("--search-layers 3", "--encoder-layers is 2, .* 3 layers"),
    ("--search-layers 0", None),
    ("--check-reconstruction=-1", None),
    # candidates
    ("--encoder-operations ffn,conv_4", f"--encoder-operations .*'conv_4'.*{ENCODER_CANDIDATES}"),
    ("--decoder-operations ffn,glu,ffn", "--decoder-operations .*'ffn' more than once"),
    ("--encoder-operations cross_attention", "--encoder-operations .*'cross_attention'"),
    ("--encoder-operations ,", "--encoder-operations .*''"),
    # when to stop
    ("--warn-skip-share 1.5", None),
    ("--stop-unchanged=-3", None),
    ("--stop-entropy nan", None),
    # alpha's data
    ("--arch-subset no_such", "--arch-subset is 'no_such'"),
    ("--arch-subset test1", r"test1\.aa-bb\.aa\.bin .*empty"),
    ("--arch-subset train", "--arch-subset is 'train'"),
    ("--arch-subset train1", "--arch-subset is 'train1'"),
    ("--arch-subset test --arch-fraction 0.4", "--arch-subset and --arch-fraction"),
    *((f"--arch-fraction={value}", None) for value in (0, 1, "nan")),
    ("--arch-fraction 0.001", "--arch-fraction 0.001 .* 0 to alpha"),
    ("--arch-fraction 0.02", "6 sentences .*--required-batch-size-multiple"),
    ("--max-target-positions 2", "--max-target-positions"),
    ("--update-freq 0", None),
    ("--update-freq 50 --skip-remainder-batch", "--skip-remainder-batch"),
    # task and optimizer
    ("--task translation", "bilevel_adam needs a search task"),
    ("--memory-efficient-fp16", "--memory-efficient-fp16 .* use --fp16"),
    ("--adam-betas (0.9,1.5)", r"--adam-betas is '\(0.9,1.5\)'"),
    ("--arch-adam-betas 0.9", "--arch-adam-betas is '0.9'"),
    ("--arch-adam-betas (0.9", "--arch-adam-betas is "),
    (f"--arch-adam-betas={'-' * 100_000}1", "--arch-adam-betas is "),
    (f"--arch-adam-betas ({10**400},0.9)", "--arch-adam-betas is "),
    *((f"--arch-lr={value}", None) for value in ("-1", "nan")),
    ("--arch-weight-decay=-0.1", None),
    # checkpoints
    ("--restore-file no_such.pt", None),
    ("--restore-file {derived}", "holds no supernet"),
    ("--finetune-from-model {derived}", "holds no supernet"),
    ("--finetune-from-model no_such.pt", "--finetune-from-model is .*: there is no such"),
    ("--continue-once no_such.pt", "--continue-once is .*: there is no such"),
    # another network, whose parameters have the same shapes
    ("--pooling avg --save-dir {search.parent}", "--pooling is avg, but max in the training that"),
    ("--pooling avg --restore-file {search} --reset-optimizer", "--pooling is avg, but max in"),
    ("--pooling avg --finetune-from-model {search}", "--pooling is avg, but max in"),
    ("--pooling avg --continue-once {search}", "--pooling is avg, but max in"),
    (f"--encoder-operations {REORDERED} --save-dir {{search.parent}}", f"{REORDERED}, but conv_3"),
]
SAMPLINGS = [
    ("--search-strategy darts", "--optimizer is adam, --search-strategy darts needs bilevel_adam"),
    ("--stop-skips 3", "--stop-skips is 3: .*uniform_sampling"),
    ("--arch-fraction 0.4", "--arch-fraction is 0.4: .*uniform_sampling"),
    ("--arch-subset test", "--arch-subset is test: .*uniform_sampling"),
    ("--optimizer bilevel_adam", "--optimizer is bilevel_adam, .*uniform_sampling"),
    ("--max-target-positions 2", "--max-target-positions"),
]
DERIVED_MODELS = [
    ("--hidden-dim 25", "--hidden-dim is 25, .* encoder's 2 splits"),
    ("--attention-heads 7", None),
    ("--dropout 1.5", None),
    ("--check-reconstruction 5", "--check-reconstruction is 5, .* --backprop store"),
    ("--task translation_search", "--task translation_search needs a supernet"),
    ("--optimizer bilevel_adam", "bilevel_adam needs a supernet"),
    ("--restore-file {search}", "holds a supernet: .*dartsformer-derive"),
    ("--finetune-from-model {search}", "holds a supernet: .*dartsformer-derive"),
    ("--embed-dim 16 --restore-file {derived}", "--embed-dim is 16, but 8 "),
    ("--embed-dim 16 --restore-file {derived} --reset-optimizer", "--embed-dim is 16, but 8 "),
    # the genotype against the options
    ("--encoder-splits 3", "--encoder-splits is 3, the genotype says 2"),
    ("--decoder-splits 2", "--decoder-splits is 2, the genotype says 3"),
    ("--search-layers 1", "--search-layers is 1, the genotype says 2"),
    ("--pooling avg", "--pooling is avg, the genotype says max"),
    ("--encoder-layers 3", "--encoder-layers is 3, .* 2 layers"),
    ("--genotype no_such", "genotype no_such: neither a file nor a built-in genotype"),
    (
        "--genotype {other} --save-dir {derived.parent}",
        "--genotype is .*, but .* in the training that",
    ),
    ("--arch darts_transformer", "--genotype .* dartsformer.*darts_transformer"),
]
DARTS_SEARCHES = [
    ("--attention-heads 7", "--attention-heads is 7, .* encoder's width, --hidden-dim 24"),
    ("--decoder-layers 3", None),
]
EVOLVED_MODELS = [
    ("--encoder-layers 3", "--encoder-layers is 3, it must be even"),
    ("--encoder-layers 0", None),
    ("--attention-heads 5", "--hidden-dim is 24, .* --attention-heads 5 .* multiple of 10"),
    ("--attention-heads 24 --hidden-dim 36", "--hidden-dim is 36, .* multiple of 24"),
    ("--activation-dropout 2", "--activation-dropout is 2.0"),
    ("--restore-file {search}", "holds a supernet: .*dartsformer-derive"),
    ("--no-scale-embedding --save-dir {evolved.parent}", "scale-embedding is True, but False in"),
    ("--hidden-dim 48 --finetune-from-model {evolved}", "--hidden-dim is 48, but 24 "),
]
KINDS = {"search": SEARCH, "sampling": SAMPLING, "derived": DERIVED, "darts": DARTS}
KINDS |= {"evolved": EVOLVED}
REFUSED = {"search": SEARCHES, "sampling": SAMPLINGS, "derived": DERIVED_MODELS}
REFUSED |= {"darts": DARTS_SEARCHES, "evolved": EVOLVED_MODELS}


@pytest.fixture(scope="module")
def checkpoints(data, logged_search, tmp_path_factory) -> dict[str, Path]:
    """A checkpoint of a search, and of two kinds of models; another genotype than theirs."""
    folders = {"search": logged_search}
    for kind in ("derived", "evolved"):
        folders[kind] = tmp_path_factory.mktemp(kind)
        train(KINDS[kind], data, folders[kind], "--max-update", "1", "--disable-validation")
    paths = {k: folder / "checkpoints" / "checkpoint_last.pt" for k, folder in folders.items()}
    paths["other"] = tmp_path_factory.mktemp("other") / "genotype.json"
    paths["other"].write_text(replace(BUILTIN["paper_fig4_approx"], pooling="avg").to_json())
    return paths


TRAININGS = [(kind, *case) for kind, cases in REFUSED.items() for case in cases]


@pytest.mark.parametrize(
    ("kind", "options", "pattern"), TRAININGS, ids=[f"{k} {o[:60]}" for k, o, _ in TRAININGS]
)
def test_training(data, checkpoints, tmp_path, kind, options, pattern):
    """Refused before the first update, with every file as it was."""
    inputs = data, *(path.parent for path in checkpoints.values())
    before = contents(*inputs)
    given = options.format(**checkpoints).split()
    line = attempt("train", *training(KINDS[kind], data, tmp_path, *given)).line
    check(line, options, pattern)
    assert contents(tmp_path) == {} and contents(*inputs) == before


def check(line: str, options: str, pattern: str | None) -> None:
    expected = " is ".join(options.replace("=", " ").split(maxsplit=2)[:2])
    assert re.search(pattern, line) if pattern else expected in line, line


def test_derived_model_needs_a_genotype(data, tmp_path):
    line = attempt("train", *training(DERIVED[:-2], data, tmp_path)).line
    assert line.startswith("--genotype is missing")


@pytest.mark.parametrize("kind", ["derived", "evolved"])
@pytest.mark.parametrize(
    ("command", "options", "value"),
    [
        ("generate", "--print-alignment", "hard"),
        ("interactive", "--replace-unk", "@@ "),  # fairseq's value without a file
        ("interactive", "--replace-unk dictionary", "dictionary"),
    ],
)
def test_no_alignment(data, checkpoints, kind, command, options, value):
    given = ["--user-dir", PLUGIN, "--path", str(checkpoints[kind]), "--cpu", *options.split()]
    check(
        attempt(command, str(data), *given).line,
        "",
        f"{options.split()[0]} is {value}, it must be left out",
    )


def test_installed_command(data, tmp_path):
    """In a process that finds the plugin by ``--user-dir`` alone."""
    environment = {name: v for name, v in os.environ.items() if name != "PYTHONPATH"}
    run = subprocess.run(
        [
            *(sys.executable, "-m", "fairseq_cli.train"),
            *training(SEARCH, data, tmp_path, "--hidden-dim", "25"),
        ],
        env={**environment, "PYTHONWARNINGS": "ignore", "CUDA_VISIBLE_DEVICES": ""},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
    )
    check(Outcome(run.returncode, run.stderr).line, "--hidden-dim 25", None)
