"""`dartsformer-memory`: its figures are those of real tensors, and it says what it cannot do."""

import re
import subprocess
import sys
from functools import cache, partial

import pytest
import torch

from fairseq_dartsformer.cli import memory as command
from fairseq_dartsformer.criterions import linear_cross_entropy
from fairseq_dartsformer.memory import planner
from fairseq_dartsformer.memory.measurement import as_on_gpu, fake_tensors, measured_peak
from fairseq_dartsformer.memory.planner import MemoryPlan, Training, plan_memory, training_config
from fairseq_dartsformer.search_space.levels import LEVELS, gradients_for

SMALL = (
    "--embed-dim 32 --hidden-dim 96 --ffn-dim 128 --encoder-layers 1 --decoder-layers 1 "
    "--search-layers 1 --attention-heads 4 "
    "--encoder-operations conv_3,dynamic_conv_3,self_attention "
    "--decoder-operations ffn,cross_attention,glu"
).split()
# A plan takes longer the more layers and candidates it has.
FEW = "--encoder-operations conv_3,ffn --decoder-operations conv_3,ffn".split()
TEXT = [
    *"--embed-dim 32 --hidden-dim 96 --ffn-dim 128 --decoder-layers 1 --attention-heads 4".split(),
    *"--search-layers 1 --decoder-operations self_attention,ffn".split(),
    "--share-decoder-input-output-embed",
]
VOCABULARY, SENTENCES, LENGTH = 500, 8, 20


def config(arch: str, *options: str):
    return training_config(arch, options)


@cache
def plan(*options: str) -> MemoryPlan:
    return plan_memory(config(*options), VOCABULARY, SENTENCES, LENGTH)


def test_nothing_but_the_answer():
    """Importing fairseq turns on other libraries' logs; hydra warns of how fairseq calls it."""
    arguments = ["--arch", "dartsformer_search", *SMALL, *FEW, "--max-tokens", "100"]
    run = subprocess.run(
        [sys.executable, "-m", "fairseq_dartsformer.cli.memory", *arguments],
        capture_output=True,
        text=True,
    )
    assert run.stderr == "" and "M parameters, 100 tokens a batch" in run.stdout


@pytest.fixture(scope="module")
def search() -> MemoryPlan:
    return plan("dartsformer_search", *SMALL)


def test_parameters_gradients_and_moments(search):
    """Four bytes a number; tables of 1,024 positions stand beside the parameters."""
    parameters = 4 * search.count
    assert 1 < search.parameters / (parameters + 2 * 4 * 1024 * 96) < 1.1
    # Small tensors are rounded up.
    assert 0.98 < search.gradients / parameters < 1.1
    assert 1.98 < search.optimizer / parameters < 2.3
    held = search.parameters + search.gradients + search.optimizer
    assert held + max(search.activations, search.output_layer) * 0.5 < search.total
    assert search.total < held + search.activations + search.output_layer


def test_half_precision(search):
    """Half the parameters and gradients, and float32 copies of both beside the moments."""
    half = plan("dartsformer_search", *SMALL, "--fp16")
    assert half.count == search.count
    assert 0.5 < half.parameters / search.parameters < 0.8  # positions stay as they are
    assert half.gradients < 0.55 * search.gradients
    assert 3.9 < half.optimizer / (4 * half.count) < 4.4
    assert half.activations < search.activations


@pytest.mark.parametrize("backprop", ["reconstruct", "store"])
@pytest.mark.parametrize("kind", [["dartsformer_search", *SMALL], ["dartsformer_lm_search", *TEXT]])
def test_activations_are_those_of_real_tensors(kind, backprop):
    """Forward and backward of the very model, upon real tensors."""
    options = [*kind, "--backprop", backprop]
    planned = plan(*options).activations
    training = Training(config(*options), VOCABULARY)
    model = training.model
    inputs = training.batch(None, SENTENCES, LENGTH)["net_input"]

    def step(kept: list) -> None:
        features, _ = model(**inputs, features_only=True)
        features.sum().backward() if kept is None else kept.append(features)

    held = []
    for level in LEVELS:
        model.zero_grad()
        with gradients_for(model, [level]), as_on_gpu():
            forward, whole = (measured_peak(partial(step, kept)) for kept in ([], None))
        gradients = sum(p.grad.nbytes for p in model.parameters() if p.grad is not None)
        held.append(max(forward, whole - gradients))
    assert planned == pytest.approx(max(held), rel=0.05)


DEPTHS = [f"--encoder-layers {n} --decoder-layers {n}".split() for n in (1, 4)]


def activations_by_depth(arch: str, options: list[str]) -> list[int]:
    """Planned activations with one layer and with four in a stack."""
    depths = [depth[2 * ("_lm" in arch) :] for depth in DEPTHS]  # a language model has no encoder
    return [plan(arch, *options, *depth).activations for depth in depths]


@pytest.mark.parametrize(
    ("arch", "options"),
    [
        ("dartsformer_search", [*SMALL, *FEW]),
        ("dartsformer_search", [*SMALL, *FEW, "--search-strategy", "uniform_sampling"]),
        ("dartsformer_lm_search", TEXT),
    ],
)
def test_activations_do_not_grow_with_depth(monkeypatch, arch, options):
    monkeypatch.setattr(planner, "DRAWS", 4)  # of two candidates
    flat, deep = activations_by_depth(arch, options)
    assert deep < 1.1 * flat


@pytest.mark.parametrize(
    ("arch", "options"),
    [
        ("dartsformer_search", [*SMALL, *FEW, "--backprop", "store"]),
        ("dartsformer_lm_search", [*TEXT, "--backprop", "store"]),
        ("darts_transformer_lm_search", TEXT),
    ],
)
def test_stored_activations_grow_with_depth(arch, options):
    flat, deep = activations_by_depth(arch, options)
    assert deep > 3 * flat


def test_sampling(search):
    """Moments of all weights, as in `darts`, but gradients and activations of one path."""
    options = ["dartsformer_search", *SMALL, "--search-strategy", "uniform_sampling"]
    sampled = plan(*options)
    assert sampled.gradients < 0.7 * search.gradients
    assert 0.9 < sampled.optimizer / search.optimizer < 1.01
    assert sampled.activations <= search.activations
    stored = ["--backprop", "store"]
    mixed = plan("dartsformer_search", *SMALL, *stored).activations
    assert plan(*options, *stored).activations < 0.6 * mixed


def test_output_layer(monkeypatch):
    """The logits of fairseq's criterion, several times over; of ours, a tenth of them."""
    options = ["dartsformer_search", *SMALL]
    whole = plan(*options, "--criterion", "label_smoothed_cross_entropy").output_layer
    logits = 4 * SENTENCES * LENGTH * VOCABULARY
    assert 2 * logits < whole < 6 * logits
    monkeypatch.setattr(linear_cross_entropy, "CHUNK", VOCABULARY * SENTENCES * LENGTH // 10)
    chunked = plan.__wrapped__(*options).output_layer  # computed anew
    assert chunked < 0.4 * whole


@pytest.mark.parametrize(
    "options",
    [
        "--arch dartsformer --genotype paper_fig4_approx --encoder-layers 2 --decoder-layers 2",
        "--arch transformer --encoder-layers 1 --decoder-layers 1 --amp",
        "--arch transformer_lm --decoder-layers 1 --decoder-embed-dim 48",
        "--arch evolved_transformer --hidden-dim 48 --attention-heads 4 --encoder-layers 2 --fp16",
        "--arch dartsformer_lm_search --hidden-dim 96 --attention-heads 4 --decoder-layers 1 "
        "--search-layers 1 --decoder-operations ffn,glu --bf16",
    ],
)
def test_command(options, monkeypatch, capsys):
    searched = "transformer_lm" in options  # for the largest batch, which takes many plans
    gpu = "--gpu 1.05" if searched else ""
    arguments = f"{options} --vocabulary 500 --max-tokens 160 --length 20 {gpu}".split()
    monkeypatch.setattr(sys, "argv", ["dartsformer-memory", *arguments])
    command.cli_main()
    out = capsys.readouterr().out
    assert re.search(r"^[\d.]+M parameters, 160 tokens a batch, one worker$", out, re.M)
    sizes = dict(re.findall(r"^(\w[\w ]+?) +([\d.]+) GB$", out, re.M))
    assert list(sizes) == [
        *("parameters", "gradients", "optimizer", "activations", "output layer", "peak of all"),
    ]
    if not searched:
        return
    (most,) = map(int, re.findall(r"^largest batch for 1.05: \d+ tokens \((\d+) ", out, re.M))
    _, *options = options.split()
    cfg, limit = config(*options), command.capacity("1.05")
    assert plan_memory(cfg, 500, most, 20).total <= limit
    assert plan_memory(cfg, 500, most + most // 50 + 1, 20).total > limit


def test_figure(tmp_path, monkeypatch, capsys):
    path = tmp_path / "figure.svg"
    small = "--encoder-layers 1 --decoder-layers 1 --search-layers 1 --encoder-operations ffn,glu "
    small += "--decoder-operations ffn,glu --max-tokens 160 --length 20 --vocabulary 500"
    arguments = ["--figure", str(path), "--hidden-dims", "24", "48", *small.split()]
    monkeypatch.setattr(sys, "argv", ["dartsformer-memory", *arguments])
    command.cli_main()
    rows = re.findall(r"^\| (\d+) \| ([\d.]+) \| ([\d.]+) \|$", capsys.readouterr().out, re.M)
    assert [row[0] for row in rows] == ["24", "48"]
    assert path.read_text().lstrip().startswith("<?xml") and len(list(tmp_path.iterdir())) == 1


def test_largest_batch():
    def total(sentences: int) -> int:
        tries.append(sentences)
        return 1000 + max(30 * sentences, 100 * sentences - 5000)

    for limit, most in ((1000, 0), (1029, 0), (1030, 1), (2500, 50), (50_000, 540)):
        tries: list[int] = []
        found = command.largest_batch(total, limit, 20)
        assert most - most // 50 <= found <= most
        assert len(tries) < 15


def test_counter():
    with fake_tensors() as counter:
        a = torch.zeros(1000)
        view, held = a[::2], counter.held
        del a
        assert counter.held == held == 4096
        b = view * 2
        assert counter.held == 4096 + 2048
        del b, view
    assert counter.held == 0 and counter.peak == 4096 + 2048
