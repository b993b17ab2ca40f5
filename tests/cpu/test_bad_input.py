"""Bad input ends in one line that names it, before any update, and with everything as it was."""

import os
import pickle
import re
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.running import (
    DARTS,
    DERIVED,
    EVOLVED,
    PLUGIN,
    SAMPLING,
    SEARCH,
    TIMEOUT,
    start,
    train,
    training,
)

ENCODER = "conv_3, conv_5, conv_7, conv_11, dynamic_conv_3, "
SUPERNET = ["--arch", "dartsformer_search"]

# what is trained, its options ({data} and the like are filled in), a pattern of the line
CASES = [
    # -- sizes
    (SEARCH, "--hidden-dim 25", "--hidden-dim is 25, .* encoder's 2 splits"),
    (SEARCH, "--hidden-dim 2 --decoder-splits 2", "--hidden-dim is 2, it must be at least 4"),
    (SEARCH, "--hidden-dim 26 --attention-heads 1", "--hidden-dim is 26, .* decoder's 3 splits"),
    (SEARCH, "--attention-heads 5", "--attention-heads is 5, .* encoder's .* 24/2 = 12"),
    (SEARCH, "--attention-heads 3", "--attention-heads is 3, .* decoder's .* 24/3 = 8"),
    (SEARCH, "--encoder-splits 1", "--encoder-splits is 1, it must be at least 2"),
    (SEARCH, "--search-layers 3", "--encoder-layers is 2, .* multiple .* 3 layers"),
    (SEARCH, "--decoder-layers 5", "--decoder-layers is 5, .* multiple .* 2 layers"),
    (SEARCH, "--search-layers 0", "--search-layers is 0, it must be at least 1"),
    (DERIVED, "--hidden-dim 25", "--hidden-dim is 25, .* encoder's 2 splits"),
    (DERIVED, "--attention-heads 7", "--attention-heads is 7, "),
    (DERIVED, "--check-reconstruction 5", "--check-reconstruction is 5, .* --backprop store"),
    (SEARCH, "--check-reconstruction=-1", "--check-reconstruction is -1, it must be at least 0"),
    (DERIVED, "--dropout 1.5", r"--dropout is 1.5, it must lie in \[0, 1\)"),
    # -- candidates
    (SEARCH, "--encoder-operations ffn,conv_4", f"--encoder-operations names 'conv_4'.*{ENCODER}"),
    (SEARCH, "--decoder-operations ffn,glu,ffn", "--decoder-operations names 'ffn' more than once"),
    (SEARCH, "--encoder-operations cross_attention", "--encoder-operations .*'cross_attention'"),
    (SEARCH, "--encoder-operations ,", "--encoder-operations names ''"),
    # -- genotype
    (DERIVED, "--encoder-splits 3", "--encoder-splits is 3, the genotype says 2"),
    (DERIVED, "--decoder-splits 2", "--decoder-splits is 2, the genotype says 3"),
    (DERIVED, "--search-layers 1", "--search-layers is 1, the genotype says 2"),
    (DERIVED, "--pooling avg", "--pooling is avg, the genotype says max"),
    (DERIVED, "--encoder-layers 3", "--encoder-layers is 3, .* multiple .* 2 layers"),
    (DERIVED, "--genotype no_such", "genotype no_such: neither a file nor a built-in genotype"),
    (DERIVED, "--genotype {data}/dict.aa.txt", "genotype .*dict.aa.txt: not JSON"),
    (DERIVED[:-2], "", "--genotype is missing"),
    (
        DERIVED,
        "--arch darts_transformer",
        "--genotype is of the family dartsformer, .* darts_transformer: .* for --arch dartsformer$",
    ),
    (DARTS, "--attention-heads 7", "--attention-heads is 7, .* encoder's width, --hidden-dim 24"),
    (DARTS, "--decoder-layers 3", "--decoder-layers is 3, .* multiple .* 2 layers"),
    (EVOLVED, "--encoder-layers 3", "--encoder-layers is 3, it must be even: a cell is 2 layers"),
    (EVOLVED, "--decoder-layers 7", "--decoder-layers is 7, it must be even"),
    (EVOLVED, "--encoder-layers 0", "--encoder-layers is 0, it must be at least 1"),
    (
        EVOLVED,
        "--attention-heads 5",
        "--hidden-dim is 24, .* --attention-heads 5 .* multiple of 10",
    ),
    (EVOLVED, "--attention-heads 24 --hidden-dim 36", "--hidden-dim is 36, .* multiple of 24"),
    (EVOLVED, "--activation-dropout 2", r"--activation-dropout is 2.0, it must lie in \[0, 1\)"),
    # -- when to stop
    (SEARCH, "--warn-skip-share 1.5", r"--warn-skip-share is 1.5, it must lie in \[0, 1\]"),
    (SEARCH, "--stop-skips 0", "--stop-skips is 0, it must be at least 1"),
    (SEARCH, "--stop-unchanged=-3", "--stop-unchanged is -3, it must be at least 1"),
    (SEARCH, "--stop-entropy nan", "--stop-entropy is nan, it must be above 0"),
    (SAMPLING, "--stop-skips 3", "--stop-skips is 3, .*uniform_sampling does not: leave it out"),
    # -- alpha's data
    (SEARCH, "--arch-subset no_such", "--arch-subset is 'no_such', .* no such binarised split"),
    (SEARCH, "--arch-subset test1", "--arch-subset is 'test1', which is empty"),
    (SEARCH, "--arch-subset train", "--arch-subset is 'train', the weights' own data"),
    (SEARCH, "--arch-subset train1", "--arch-subset is 'train1', .* reads as a part of 'train'"),
    (SEARCH, "--arch-subset test --arch-fraction 0.4", "--arch-subset and --arch-fraction exclude"),
    *[
        (SEARCH, f"--arch-fraction={f}", rf"--arch-fraction is {f}\S*, it must lie between 0 and 1")
        for f in ("0", "1", "nan", "-0.5", "inf")
    ],
    (SEARCH, "--arch-fraction 0.001", "--arch-fraction 0.001 of 300 .* 0 to alpha"),
    (
        SEARCH,
        "--arch-fraction 0.02",
        "update alpha on: 6 sentences make no batch.* --required-batch-size-mult",
    ),
    (SEARCH, "--max-target-positions 2", "--max-target-positions"),
    (SEARCH, "--update-freq 0", "--update-freq is 0"),
    (SAMPLING, "--max-target-positions 2", "no sentence is left .*--max-target-positions"),
    (SAMPLING, "--update-freq 0", "--update-freq is 0"),
    (SEARCH, "--update-freq 50 --skip-remainder-batch", "--skip-remainder-batch"),
    # -- what does not belong together
    (
        SEARCH[:-2],
        "--optimizer adam",
        "--optimizer is adam, --search-strategy darts needs bilevel_adam",
    ),
    (
        SAMPLING[:-2],
        "--optimizer bilevel_adam",
        "--optimizer is bilevel_adam, .*uniform_sampling does not: take another, such as adam",
    ),
    (SAMPLING, "--arch-fraction 0.4", "--arch-fraction is 0.4, which .* uniform_sampling does not"),
    (SAMPLING, "--arch-subset test", "--arch-subset is test, which .* uniform_sampling does not"),
    (DERIVED, "--task translation_search", "--task translation_search needs a supernet"),
    (DERIVED, "--optimizer bilevel_adam", "--optimizer bilevel_adam needs a supernet"),
    (SEARCH, "--task translation", "--optimizer bilevel_adam needs --task translation_search"),
    (SEARCH, "--memory-efficient-fp16", "--memory-efficient-fp16 keeps no .* use --fp16"),
    # -- the optimizer's options
    (SEARCH, "--adam-betas (0.9,1.5)", r"--adam-betas is '\(0.9,1.5\)', both must lie in \[0, 1\)"),
    (SEARCH, "--arch-adam-betas 0.9", "--arch-adam-betas is '0.9', it must be a pair"),
    (SEARCH, "--arch-adam-betas (0.9", "--arch-adam-betas is .*, it must be a pair"),
    (SEARCH, "--arch-lr=-1", "--arch-lr is -1.0, it must be a finite number from 0"),
    (SEARCH, "--arch-lr nan", "--arch-lr is nan, it must be a finite number from 0"),
    (SEARCH, "--arch-lr inf", "--arch-lr is inf, it must be a finite number from 0"),
    (SEARCH, "--adam-eps=-1", "--adam-eps is -1.0, it must be a finite number from 0"),
    (
        SEARCH,
        "--arch-weight-decay=-0.1",
        "--arch-weight-decay is -0.1, it must be a finite number from 0",
    ),
    # -- checkpoints
    (DERIVED, "--write-checkpoints-asynchronously", "--write-checkpoints-asy.* must be left out"),
    (
        SEARCH,
        "--restore-file {data}/none.pt",
        "--restore-file is .*/none.pt: there is no such file",
    ),
    (DERIVED, "--restore-file {search}", "--restore-file.* holds a supernet: .*dartsformer-derive"),
    (DERIVED, "--finetune-from-model {search}", "--finetune-from-model.* holds a supernet"),
    (SEARCH, "--restore-file {derived}", "--restore-file.* holds no supernet"),
    (SEARCH, "--finetune-from-model {derived}", "--finetune-from-model.* holds no supernet"),
    (EVOLVED, "--restore-file {search}", "--restore-file.* holds a supernet: .*dartsformer-derive"),
    (
        EVOLVED,
        "--hidden-dim 48 --finetune-from-model {evolved}",
        "holds a different model: .* expected --arch and options of the model as in its training",
    ),
    (
        DERIVED,
        "--embed-dim 16 --restore-file {derived}",
        "--embed-dim is 16, but 8 in the training",
    ),
    (
        DERIVED,
        "--embed-dim 16 --restore-file {derived} --reset-optimizer",
        "holds a different model: .*embedding",
    ),
    (
        SEARCH,
        "--restore-file {data}/train.aa-bb.aa.bin",
        "train.aa-bb.aa.bin is damaged, truncated, or",
    ),
    # -- workers
    (
        SEARCH,
        "--distributed-world-size 2 --distributed-port 1",
        "--distributed-world-size is 2, .*",
    ),
]


@pytest.fixture(scope="module")
def checkpoints(data, tmp_path_factory) -> dict[str, Path]:
    """What stands in braces in the options above."""
    folder = tmp_path_factory.mktemp("checkpoints")
    paths = {"data": data}
    for name, kind in (("search", SEARCH), ("derived", DERIVED), ("evolved", EVOLVED)):
        train(kind, data, folder / name, "--max-update", "1", "--disable-validation")
        paths[name] = folder / name / "checkpoints" / "checkpoint_last.pt"
    return paths


def files(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def check_line(text: str, pattern: str) -> None:
    """``text`` is one line, of an `InputError` with this pattern."""
    (line,) = text.splitlines()
    line = re.sub(r"^\[rank\d+\]: ", "", line)  # torch says so of workers
    name, message = line.split(": ", 1)
    assert name == "fairseq_dartsformer.errors.InputError"
    assert re.search(pattern, message), message


@pytest.mark.parametrize(
    ("kind", "options", "line"),
    CASES,
    ids=[f"{kind[3]} {options}" for kind, options, _ in CASES],
)
def test_one_line(data, checkpoints, tmp_path, kind, options, line):
    options = options.format(**checkpoints).split()
    before = files(checkpoints["search"].parent) | files(data)
    run = start("train", training(kind, data, tmp_path, *options), tmp_path).wait()
    assert run.status == 1
    check_line(run.stderr, line)
    assert files(tmp_path).keys() == {tmp_path / "stdout", tmp_path / "stderr"}
    assert files(checkpoints["search"].parent) | files(data) == before


@pytest.mark.parametrize(
    "keep",
    [
        lambda good: good[: len(good) // 2],
        lambda good: good[:-1],
        lambda good: b"",
        lambda good: b"garbage",
        lambda good: pickle.dumps({"model": Path}),
    ],
    ids=["half", "less a byte", "empty", "garbage", "pickle"],
)
def test_bad_checkpoint_is_not_written_over(data, checkpoints, tmp_path, keep):
    last = tmp_path / "checkpoints" / "checkpoint_last.pt"
    last.parent.mkdir()
    last.write_bytes(keep(checkpoints["search"].read_bytes()))
    before = files(last.parent)
    run = start("train", training(SEARCH, data, tmp_path), tmp_path).wait()
    assert run.status == 1
    check_line(run.stderr, f"checkpoint {last} is damaged, truncated, or not fairseq's: ")
    assert "has no whole checkpoint to go on from" in run.stderr
    assert files(last.parent) == before


@pytest.mark.parametrize("model", ["derived", "evolved"])
@pytest.mark.parametrize(
    ("command", "given", "value"),
    [
        ("generate", "--print-alignment", "hard"),
        ("interactive", "--replace-unk", "@@ "),  # fairseq's value without a file
        ("interactive", "--replace-unk dictionary", "dictionary"),
    ],
)
def test_no_alignment(data, checkpoints, tmp_path, model, command, given, value):
    options = ["--path", str(checkpoints[model]), *given.split(), "--cpu"]
    run = start(command, [str(data), "--user-dir", PLUGIN, *options], tmp_path).wait()
    assert run.status == 1
    message = f"{given.split()[0]} is {value}, it must be left out"
    check_line(run.stderr.splitlines()[-1], message)


@pytest.mark.parametrize("case", [CASES[0], CASES[29], CASES[-1]], ids=lambda case: case[1])
def test_command_by_itself(data, tmp_path, case):
    """As installed, with the plugin found by ``--user-dir`` alone."""
    kind, options, line = case
    environment = {name: v for name, v in os.environ.items() if name != "PYTHONPATH"}
    run = subprocess.run(
        [
            *(sys.executable, "-m", "fairseq_cli.train"),
            *training(kind, data, tmp_path, *options.split()),
        ],
        env={**environment, "PYTHONWARNINGS": "ignore", "CUDA_VISIBLE_DEVICES": ""},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
    )
    assert run.returncode == 1
    check_line(run.stderr, line)
