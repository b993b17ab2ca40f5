"""Exported models translate as fairseq-generate does, without torch and fairseq."""

import json
import re
import shutil
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
import torch
from helpers.attempts import attempt
from helpers.exports import MIXED, check_equal, generated, nbest_lists, refusal, translate
from helpers.fairseq_commands import DERIVED, DERIVED_DARTS, EVOLVED, PLUGIN, train

from fairseq_dartsformer.search_space.genotype import Genotype

TRANSFORMER = (
    "--task translation --arch transformer --optimizer adam --share-all-embeddings "
    "--encoder-embed-dim 24 --decoder-embed-dim 24 --encoder-ffn-embed-dim 16 "
    "--decoder-ffn-embed-dim 16 --encoder-attention-heads 2 --decoder-attention-heads 2 "
    "--encoder-layers 1 --decoder-layers 1 --dropout 0.1"
).split()
SHARED = "--share-all-embeddings --encoder-layers 1".split()
KINDS = {
    "dartsformer": [*DERIVED, "--genotype", MIXED.to_json(), *SHARED],
    "darts_transformer": [*DERIVED_DARTS, "--decoder-layers", "1"],
    "evolved_transformer": EVOLVED,
    "transformer": TRANSFORMER,
}


@pytest.fixture(scope="module")
def trained(data, tmp_path_factory) -> Callable[[str], Path]:
    """The checkpoint of a kind of model, after a short training."""

    @cache
    def checkpoint_of(name: str) -> Path:
        folder = tmp_path_factory.mktemp(name)
        options = "--max-update 100 --lr 1e-2 --disable-validation".split()
        train(KINDS[name], data, folder, *options)
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


@pytest.mark.parametrize(
    ("name", "search"),
    [
        *((name, "--beam 5 --nbest 5") for name in KINDS),
        ("dartsformer", "--beam 3 --nbest 2 --lenpen 0.3"),
    ],
)
def test_translations_are_those_of_fairseq_generate(
    data, trained, exported, tmp_path, name, search
):
    """The n-best lists, in the same order, with scores; batches and lengths are mixed."""
    text = (data.parent / "test.aa").read_text()
    run = translate(exported(name), text, "--batch-size", "7", *search.split())
    assert run.returncode == 0, run.stderr
    expected = generated(trained(name), data, tmp_path, *search.split())
    assert len(expected) == 50
    check_equal(nbest_lists(run.stdout), expected)


def test_plain_output_does_not_depend_on_batches(data, exported):
    """A line for each line, also for an empty one and for unknown words."""
    lines = (data.parent / "test.aa").read_text().splitlines()[:12]
    lines[3:3] = ["", "w1 unknown w2"]
    text = "\n".join(lines) + "\n"
    one, many = (translate(exported("dartsformer"), text, "--batch-size", n) for n in ("1", "50"))
    assert one.stdout == many.stdout and one.returncode == 0, one.stderr
    assert len(one.stdout.splitlines()) == len(lines) and one.stdout.splitlines()[3] == ""


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
        (
            "{good} -o {new} --codes {old}/config.json",
            "neither BPE codes of subword-nmt nor a",
        ),
        ("{good} -o {new} --codes {old}/dict.aa.txt", "neither BPE codes of subword-nmt nor a"),
        ("{good} -o {new} --lower-case yes", "--lower-case is given: it needs --moses"),
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


def test_languages_that_a_checkpoint_does_not_name_are_those_of_the_text(
    data, trained, exported, tmp_path
):
    state = torch.load(trained("dartsformer"))
    state["cfg"]["task"]["source_lang"] = state["cfg"]["task"]["target_lang"] = None
    torch.save(state, tmp_path / "nameless.pt")
    arguments = [str(tmp_path / "nameless.pt"), "-o", str(tmp_path / "new"), "--data"]
    line = attempt("export", *arguments, str(exported("dartsformer"))).line
    assert re.search("--data is .*: expected the folder of the binarised text", line), line
    assert attempt("export", *arguments, str(data)).status == 0
    assert json.loads((tmp_path / "new" / "config.json").read_text())["languages"] == ["aa", "bb"]


DAMAGES = {
    "config.json": ["{", "[]", '{"format": 3}', '{"format": 1}', "\0", '{"format": {"a": 3}}'],
    "encoder.onnx": ["", "junk", "\0" * 1000],
    "decoder.onnx": ["", "junk"],
    "dict.aa.txt": ["", "w1 1\n", "w1 1\n" * 1000],
    "dict.bb.txt": ["w1"],
}


@pytest.mark.parametrize("file", DAMAGES)
def test_damage_is_one_line(exported, tmp_path, capfd, file):
    """It names the file, and no library writes more."""
    folder = shutil.copytree(exported("dartsformer"), tmp_path / "copy")
    good = (folder / file).read_bytes()
    for bad in (*map(str.encode, DAMAGES[file]), good[: len(good) // 2], b"\xff" + good):
        (folder / file).write_bytes(bad)
        assert file in refusal(folder)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("file", ["encoder.onnx", "decoder.onnx", "dict.aa.txt"])
def test_a_file_that_was_not_exported_is_one_line(exported, tmp_path, file):
    """Even a file of another model with the same inputs, or one with a byte changed."""
    folder = shutil.copytree(exported("dartsformer"), tmp_path / "copy")
    content = bytearray((folder / file).read_bytes())
    content[len(content) // 2] ^= 1
    (folder / file).write_bytes(content)
    assert f"{file}: ValueError: is not the file that was exported" in refusal(folder)


def test_a_configuration_that_was_not_exported_is_one_line(exported, tmp_path):
    folder = shutil.copytree(exported("dartsformer"), tmp_path / "copy")
    good = json.loads((folder / "config.json").read_text())
    for bad in ({"start": 5}, {"max_positions": [1024, 0]}, {"caches": good["caches"][::-1]}):
        (folder / "config.json").write_text(json.dumps(good | bad))
        assert "config.json: ValueError: is not the file that was exported" in refusal(folder)


def test_a_line_that_is_too_long_is_left_out(exported):
    run = translate(exported("dartsformer"), "w1\n" + "w1 " * 2000 + "\nw1\n")
    assert run.returncode == 0
    assert run.stderr == "line 2: 2000 tokens, at most 1023 are possible: its output is empty\n"
    first, empty, last = run.stdout.splitlines()
    assert first == last != "" == empty


def test_the_programs_are_short_and_need_little():
    needed = {
        "translate.py": {"decoding", "loading", "numpy"},
        "continue.py": {"decoding", "loading", "numpy"},
        "decoding.py": {"loading", "numpy"},
        "loading.py": {"onnxruntime"},
    }
    for name, modules in needed.items():
        text = (Path(PLUGIN) / "export" / name).read_text()
        assert len(text.splitlines()) <= 220
        imported = re.findall(r"^\s*(?:import|from) (\w+)", text, re.MULTILINE)
        assert {*imported} - {*sys.stdlib_module_names} == modules
    on_demand = re.findall(r'import_module\("(\w+)', text)
    assert {*on_demand} == {"sacremoses", "subword_nmt", "sentencepiece"}
