"""Exported models translate as fairseq-generate does, without torch and fairseq."""

import json
import re
import shutil
import subprocess
import sys
from argparse import Namespace
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
import torch
from fairseq.models import ARCH_CONFIG_REGISTRY
from fairseq.models.transformer import TransformerModel
from helpers.attempts import attempt
from helpers.fairseq_commands import (
    DERIVED,
    DERIVED_DARTS,
    EVOLVED,
    PLUGIN,
    SIZES,
    start,
    training,
)
from helpers.models import (
    Task,
    build_derived,
    build_evolved,
    every_operation_once,
    uniform_genotype,
)
from torch import nn

from fairseq_dartsformer.export.graphs import largest_difference, write_graphs
from fairseq_dartsformer.export.network import find_caches, prepared
from fairseq_dartsformer.search_space.genotype import Genotype

TRANSFORMER = (
    "--task translation --arch transformer --optimizer adam --share-all-embeddings "
    "--encoder-embed-dim 24 --decoder-embed-dim 24 --encoder-ffn-embed-dim 16 "
    "--decoder-ffn-embed-dim 16 --encoder-attention-heads 2 --decoder-attention-heads 2 "
    "--encoder-layers 2 --decoder-layers 2 --dropout 0.1"
).split()
MIXED = Genotype(
    encoder=[["conv_3", "dynamic_conv_3"], ["self_attention", "glu"]],
    decoder=[
        ["dynamic_conv_7", "self_attention", "cross_attention"],
        ["conv_5", "cross_attention", "cross_attention"],
    ],
)


def transformer(**options) -> TransformerModel:
    sizes = {"embed_dim": 24, "ffn_embed_dim": 20, "attention_heads": 2, "layers": 2}
    both = {
        f"{stack}_{name}": size for stack in ("encoder", "decoder") for name, size in sizes.items()
    }
    positions = {"max_source_positions": 64, "max_target_positions": 64}
    args = Namespace(**both, **positions, **options)
    ARCH_CONFIG_REGISTRY["transformer"](args)
    return TransformerModel.build_model(args, Task())


PRE = {"encoder_normalize_before": True, "decoder_normalize_before": True}
LEARNED = {"encoder_learned_pos": True, "decoder_learned_pos": True}
MODELS = {
    "two splits": lambda: build_derived(every_operation_once(2, "max"), hidden_dim=24),
    "three splits": lambda: build_derived(
        uniform_genotype("dynamic_conv_3", 3, "avg"), **LEARNED, layernorm_embedding=True
    ),
    "four splits": lambda: build_derived(
        Genotype(
            [["ffn", "conv_3", "zero", "identity"]],
            [["conv_7", "ffn", "cross_attention"]],
            norm="pre",
        ),
        no_token_positional_embeddings=True,
        share_all_embeddings=True,
    ),
    "darts_transformer": lambda: build_derived(
        Genotype(
            [["conv_3", "glu"]],
            [["self_attention", "cross_attention", "ffn"]],
            None,
            "darts_transformer",
        )
    ),
    "evolved_transformer": build_evolved,
    "transformer": transformer,
    "transformer with pre-norm": lambda: transformer(**PRE, **LEARNED),
}


@pytest.mark.parametrize("name", MODELS)
def test_graphs_equal_the_model(tmp_path, name):
    """For batches and lengths other than those that were traced."""
    torch.manual_seed(1)
    model = MODELS[name]().eval()
    vectors = [p for p in model.parameters() if p.dim() == 1]
    for vector in vectors:  # biases and norms, which begin as 0 and 1
        nn.init.normal_(vector, std=0.5)
    caches = write_graphs(model, tmp_path, int8=False)
    for lengths, steps in (((1,), 1), ((2,), 20), ((9, 4, 12, 1, 7, 3), 4)):
        assert largest_difference(model, tmp_path, caches, lengths, steps) < 1e-4
    for vector in vectors:
        nn.init.normal_(vector)
    assert largest_difference(model, tmp_path, caches) > 1e-3


def test_caches():
    """Keys and values grow, or follow the source; windows of convolutions do neither."""
    model = prepared(build_derived(MIXED))
    width = 24 // 3
    expected = {
        "layers.0.nodes.0.0.operation.x": (6, "batch", width),
        "layers.0.nodes.1.0.operation.k": ("past", "batch", width),
        "layers.0.nodes.2.0.operation.v": ("source", "batch", width),
        "layers.1.nodes.0.0.operation.x": (4, "batch", width),
    }
    found = {cache.name.removeprefix("decoder.stack."): cache.shape for cache in find_caches(model)}
    assert expected.items() <= found.items() and len(found) == 10


# -- the folder

KINDS = {
    "dartsformer": [*DERIVED, "--genotype", MIXED.to_json(), "--share-all-embeddings"],
    "darts_transformer": DERIVED_DARTS,
    "evolved_transformer": EVOLVED,
    "transformer": TRANSFORMER,
}


@pytest.fixture(scope="module")
def trained(data, tmp_path_factory) -> Callable[[str], Path]:
    """The checkpoint of a kind of model, after a short training."""

    @cache
    def checkpoint_of(name: str) -> Path:
        folder = tmp_path_factory.mktemp(name)
        arguments = training([], data, folder)
        if name == "transformer":
            del arguments[-len(SIZES) :]  # it has other names for them
        arguments += KINDS[name]
        options = "--max-update 100 --lr 1e-2 --disable-validation".split()
        run = start("train", [*arguments, *options], folder).wait()
        assert run.status == 0, run.stderr
        return folder / "checkpoints" / "checkpoint_last.pt"

    return checkpoint_of


@pytest.fixture(scope="module")
def exported(trained) -> Callable[[str], Path]:
    """The folder of a kind of model."""

    @cache
    def folder_of(name: str) -> Path:
        folder = trained(name).parent / "exported"
        outcome = attempt("export", str(trained(name)), "-o", str(folder))
        assert outcome.status == 0, outcome
        return folder

    return folder_of


def translate(folder: Path, text: str, *options: str) -> subprocess.CompletedProcess:
    """Run the folder's program where torch, fairseq and this package cannot be imported."""
    code = (
        "import runpy, sys; sys.modules.update(dict.fromkeys(['torch', 'fairseq', "
        "'fairseq_dartsformer'])); sys.argv = sys.argv[1:]; "
        "runpy.run_path(sys.argv[0], run_name='__main__')"
    )
    command = [sys.executable, "-c", code, str(folder / "translate.py"), "--threads", "1", *options]
    return subprocess.run(command, input=text, capture_output=True, text=True, timeout=120)


def generated(path: Path, data: Path, folder: Path, *options: str) -> dict[int, list[tuple]]:
    """(score, translation) by fairseq-generate, the best first, by line."""
    arguments = [
        str(data),
        "--user-dir",
        PLUGIN,
        "--path",
        str(path),
        "--cpu",
        "--max-tokens",
        "60",
    ]
    arguments += "--required-batch-size-multiple 1 --max-len-a 1 --max-len-b 50".split()
    run = start("generate", [*arguments, *options], folder).wait()
    assert run.status == 0, run.stderr
    found: dict[int, list[tuple]] = {}
    for line, score, text in re.findall(r"^H-(\d+)\t(\S+)\t(.*)$", run.stdout, re.MULTILINE):
        found.setdefault(int(line), []).append((float(score), text))
    return found


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("search", ["--beam 5 --nbest 5", "--beam 3 --nbest 2 --lenpen 0.3"])
def test_translations_are_those_of_fairseq_generate(
    data, trained, exported, tmp_path, name, search
):
    """The n-best lists, in the same order, with scores; batches and lengths are mixed."""
    text = (data.parent / "test.aa").read_text()
    run = translate(exported(name), text, "--batch-size", "7", *search.split())
    assert run.returncode == 0, run.stderr
    expected = generated(trained(name), data, tmp_path, *search.split())
    found: dict[int, list[tuple]] = {}
    for line in run.stdout.splitlines():
        number, score, translation = line.split("\t")
        found.setdefault(int(number), []).append((float(score), translation))
    assert len(found) == len(expected) == 50
    for line, hypotheses in expected.items():
        assert [text for _, text in found[line]] == [text for _, text in hypotheses]
        for (one, _), (other, _) in zip(found[line], hypotheses, strict=True):
            assert abs(one - other) < 1e-3


def test_plain_output_does_not_depend_on_batches(data, exported):
    """A line for each line, also for an empty one and for unknown words."""
    lines = (data.parent / "test.aa").read_text().splitlines()[:12]
    lines[3:3] = ["", "w1 unknown w2"]
    text = "\n".join(lines) + "\n"
    one, many = (translate(exported("dartsformer"), text, "--batch-size", n) for n in ("1", "50"))
    assert one.stdout == many.stdout and one.returncode == 0, one.stderr
    assert len(one.stdout.splitlines()) == len(lines) and one.stdout.splitlines()[3] == ""


def test_text_is_processed(trained, exported, tmp_path):
    """BPE by its codes, and Moses' rules. Damaged codes are one line."""
    (tmp_path / "codes").write_text("#version: 0.2\nw 1</w>\nw 2</w>\n")
    arguments = ["-o", str(tmp_path / "out"), "--codes", str(tmp_path / "codes"), "--moses"]
    assert attempt("export", str(trained("transformer")), *arguments).status == 0
    run = translate(tmp_path / "out", "w1 w2\n")
    assert run.returncode == 0, run.stderr
    assert run.stdout == translate(exported("transformer"), "w1 w2\n").stdout
    (tmp_path / "out" / "codes").write_text("#version: 0.2\nno merge of two\n")
    run = translate(tmp_path / "out", "w1 w2\n")
    assert run.returncode == 1 and run.stderr.count("\n") == 1 and "codes: " in run.stderr


def test_int8(trained, tmp_path):
    arguments = ["-o", str(tmp_path / "out"), "--int8"]
    assert attempt("export", str(trained("transformer")), *arguments).status == 0
    assert b"DynamicQuantizeLinear" in (tmp_path / "out" / "decoder.onnx").read_bytes()
    run = translate(tmp_path / "out", "w1 w2\n")
    assert run.returncode == 0 and run.stdout.strip(), run.stderr


def test_weights_and_configuration_rebuild_the_model(trained, exported):
    from safetensors.torch import load_file

    config = json.loads((exported("dartsformer") / "config.json").read_text())
    assert config["architecture"] == "dartsformer"
    assert Genotype.from_json(json.dumps(config["genotype"]), "config") == MIXED
    weights = load_file(exported("dartsformer") / "model.safetensors")
    state = torch.load(trained("dartsformer"))["model"]
    assert all(torch.equal(weights[name], state[name]) for name in weights)
    assert state.keys() - weights.keys() <= {
        "decoder.input.embedding.tokens.weight",
        "decoder.input.embedding.projection.weight",
        "decoder.output_projection.weight",
    }


@pytest.mark.parametrize(
    ("arguments", "pattern"),
    [
        ("{search} -o {new}", "is a checkpoint of dartsformer_search, expected dartsformer or"),
        ("{good} -o {old}", "exists and is not an empty folder"),
        ("{good} -o {new}/deep", "there is no folder"),
        ("{good} -o {new} --codes {old}/config.json", "not BPE codes"),
        ("{good} -o {new} --data {new}", "--data is .* expected a folder with the dictionaries"),
        ("missing.pt -o {new}", "missing.pt cannot be read"),
    ],
)
def test_bad_input_is_one_line(trained, exported, logged_search, tmp_path, arguments, pattern):
    paths = {
        "search": logged_search / "checkpoints" / "checkpoint_last.pt",
        "new": tmp_path / "new",
    }
    paths |= {"good": trained("dartsformer"), "old": exported("dartsformer")}
    line = attempt("export", *arguments.format(**paths).split()).line
    assert re.search(pattern, line), line
    assert list(tmp_path.iterdir()) == []


DAMAGES = {
    "config.json": ["{", "[]", '{"format": 2}', '{"format": 1}', "\0", '{"format": {"a": 1}}'],
    "encoder.onnx": ["", "junk", "\0" * 1000],
    "decoder.onnx": ["", "junk"],
    "dict.aa.txt": ["", "w1 1\n", "w1 1\n" * 1000],
    "dict.bb.txt": ["w1"],
}


@pytest.mark.parametrize("file", DAMAGES)
def test_damage_is_one_line(exported, tmp_path, file):
    """It names the file."""
    folder = shutil.copytree(exported("dartsformer"), tmp_path / "copy")
    good = (folder / file).read_bytes()
    for bad in (*map(str.encode, DAMAGES[file]), good[: len(good) // 2], b"\xff" + good):
        (folder / file).write_bytes(bad)
        run = translate(folder, "w1\n")
        assert run.returncode == 1 and run.stderr.count("\n") == 1, run.stderr
        assert file in run.stderr and "Traceback" not in run.stderr


def test_foreign_graphs_and_long_lines_are_one_line(exported, tmp_path):
    folder = shutil.copytree(exported("dartsformer"), tmp_path / "copy")
    shutil.copy(folder / "encoder.onnx", folder / "decoder.onnx")
    run = translate(folder, "w1\n")
    assert run.returncode == 1 and "decoder.onnx: ValueError: its inputs are not" in run.stderr
    run = translate(exported("dartsformer"), "w1 " * 2000 + "\n")
    assert run.returncode == 1 and "over 1023 tokens in a line: w1 w1" in run.stderr


def test_the_program_is_short_and_needs_little():
    program = Path(PLUGIN) / "export" / "translate.py"
    text = program.read_text()
    assert len(text.splitlines()) <= 200
    imported = set(re.findall(r"^\s*(?:import|from) (\w+)", text, re.MULTILINE))
    outside = imported - set(sys.stdlib_module_names)
    assert outside == {"numpy", "onnxruntime", "sacremoses", "subword_nmt"}
