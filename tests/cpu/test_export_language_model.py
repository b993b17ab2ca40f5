"""Exported language models continue text as fairseq-interactive does, without torch and fairseq."""

import json
import re
import runpy
import shutil
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.attempts import attempt
from helpers.exports import by_fairseq, check_equal, nbest_lists, refusal, run_program
from helpers.fairseq_commands import PLUGIN, TEXT_SEARCH, train
from helpers.models import build_derived, every_operation_once
from torch import nn

from fairseq_dartsformer.export.folder import load_model
from fairseq_dartsformer.export.graphs import largest_difference, write_graphs
from fairseq_dartsformer.export.network import Cache, find_caches
from fairseq_dartsformer.export.replacements import prepared
from fairseq_dartsformer.search_space.genotype import Genotype

PROGRAM = "continue.py"
GENOTYPE = Genotype(
    None,
    [["conv_3", "self_attention", "ffn"], ["glu", "identity", "dynamic_conv_3"]],
    "max",
    "dartsformer_lm",
)
TEXT = "--task language_modeling --optimizer adam --tokens-per-sample 40 --sample-break-mode eos"
SHARED = "--share-decoder-input-output-embed"
TRANSFORMER = (
    "--arch transformer_lm --decoder-embed-dim 24 --decoder-ffn-embed-dim 16 --add-bos-token "
    f"--decoder-attention-heads 2 --decoder-layers 2 --dropout 0.1 {SHARED}"
)
KINDS = {
    "dartsformer_lm": [
        *f"--arch dartsformer_lm --embed-dim 8 {SHARED} --genotype".split(),
        GENOTYPE.to_json(),
    ],
    "transformer_lm": TRANSFORMER.split(),
}
PROMPTS = ["w1 w2", "w3", "w0 w5 w9 w14 w20 w27 w33 w39 w4 w8", "unknown w1", "w7 w7 w7"]


@pytest.fixture(scope="module")
def exported(data, tmp_path_factory) -> Callable[[str], tuple[Path, Path]]:
    """The checkpoint of a kind of model, after a short training, and its folder."""

    @cache
    def folder_of(name: str) -> tuple[Path, Path]:
        folder = tmp_path_factory.mktemp(name)
        options = "--max-update 60 --lr 1e-2 --disable-validation".split()
        train([*TEXT.split(), *KINDS[name]], data, folder, *options)
        checkpoint = folder / "checkpoints" / "checkpoint_last.pt"
        outcome = attempt("export", str(checkpoint), "-o", str(folder / "exported"))
        assert outcome.status == 0, outcome
        return checkpoint, folder / "exported"

    return folder_of


@pytest.mark.parametrize(
    "genotype",
    [
        every_operation_once(2, "max", text=True),
        Genotype(None, [["dynamic_conv_15", "self_attention", "glu"]], "avg", "dartsformer_lm"),
        Genotype(None, [["conv_5", "self_attention"]], None, "darts_transformer_lm"),
    ],
    ids=["two splits", "three splits", "darts"],
)
def test_graphs_equal_the_model(tmp_path, genotype):
    """For every operation, and for batches and lengths other than those that were traced."""
    torch.manual_seed(1)
    learned = len(genotype.decoder[0]) == 3
    model = build_derived(genotype, hidden_dim=24, decoder_learned_pos=learned).eval()
    for vector in (p for p in model.parameters() if p.dim() == 1):  # they begin as 0 and 1
        nn.init.normal_(vector, std=0.5)
    check_graphs(model, tmp_path, write_graphs(model, tmp_path, int8=False))


@pytest.mark.parametrize("name", KINDS)
def test_graphs_equal_the_trained_model(exported, name):
    """Of three splits and max pooling, and fairseq's."""
    checkpoint, folder = exported(name)
    model, *_ = load_model(str(checkpoint), None)
    check_graphs(model, folder, find_caches(prepared(model)))


def check_graphs(model: nn.Module, folder: Path, caches: list[Cache]) -> None:
    assert not any("source" in cache.shape for cache in caches)
    for rows, steps in ((1, 1), (1, 20), (6, 4)):
        assert largest_difference(model, folder, caches, (1,) * rows, steps) < 1e-4


@pytest.mark.parametrize(
    ("name", "search"),
    [
        ("dartsformer_lm", "--beam 5 --nbest 5"),
        ("dartsformer_lm", "--beam 3 --nbest 2 --lenpen 0.3 --max-len-b 6 --temperature 0.7"),
        ("transformer_lm", "--beam 5 --nbest 5"),
        ("transformer_lm", "--sampling --sampling-topk 1 --beam 1 --nbest 1 --temperature 2"),
    ],
)
def test_continuations_are_those_of_fairseq_interactive(data, exported, tmp_path, name, search):
    """The n-best lists, in the same order, with scores; also of an empty prompt, of an unknown word
    and of a prompt over the limit. The model of one kind begins with <s>, that of the other with
    </s>."""
    checkpoint, folder = exported(name)
    text = "\n".join(["", *PROMPTS]) + "\n"
    (tmp_path / "prompts").write_text(text)
    given = ["--task", "language_modeling", "--input", str(tmp_path / "prompts"), *search.split()]
    given += ["--add-bos-token"] * (name == "transformer_lm")
    expected = by_fairseq("interactive", checkpoint, data, tmp_path, *given)
    options = search.replace("--sampling ", "").replace("--sampling-topk", "--topk").split()
    run = run_program(folder / PROGRAM, text, "--batch-size", "4", *options)
    assert run.returncode == 0, run.stderr
    check_equal(nbest_lists(run.stdout), expected)
    assert len(expected) == 6 and any(len(found[0][1].split()) > 4 for found in expected.values())


def test_drawn_continuations(exported):
    """They begin with their prompts, depend on seed and line and not on batches, and differ."""
    program, text = exported("dartsformer_lm")[1] / PROGRAM, "\n".join(PROMPTS) + "\n"
    options = "--topk 10 --max-len-b 30 --nbest 3 --seed".split()
    one, again, other = (
        run_program(program, text, *options, seed, "--batch-size", batch)
        for seed, batch in (("1", "1"), ("1", "50"), ("2", "50"))
    )
    found = nbest_lists(one.stdout)
    check_equal(nbest_lists(again.stdout), found)
    assert nbest_lists(other.stdout) != found and one.returncode == 0, one.stderr
    for prompt, (*drawn,) in zip(PROMPTS, found.values(), strict=True):
        assert len({text for _, text in drawn}) > 1
        for score, text in drawn:
            assert score < 0 and text.startswith(prompt.replace("unknown", "<unk>"))


def test_tokens_are_drawn_by_their_probabilities(monkeypatch):
    """From the most likely ones, of which the probabilities then sum to 1."""
    folder = Path(PLUGIN) / "export"
    monkeypatch.syspath_prepend(str(folder))
    drawing = runpy.run_path(str(folder / PROGRAM))["drawing"]
    for name in ("decoding", "loading"):
        sys.modules.pop(name)
    scores = np.log(np.array([[[0.3, 0.05, 0.4, 0.1, 0.15]]], "f4"))
    sums = np.full((1, 1), -2, "f4")
    sums, origins, chosen = drawing(3, 1, [7])(scores, sums, 20_000, 5, np.array([0]))
    counts = np.bincount(chosen[0], minlength=5) / 20_000
    assert np.abs(counts - np.array([0.3, 0, 0.4, 0, 0.15]) / 0.85).max() < 0.015
    assert not origins.any() and np.allclose(sums, -2 + scores[0, 0][chosen])


def test_the_folder(exported):
    from safetensors.torch import load_file

    from fairseq_dartsformer.export.folder import SHARED

    checkpoint, folder = exported("dartsformer_lm")
    names = {"config.json", "model.safetensors", "dict.txt", "decoder.onnx"}
    assert {path.name for path in folder.iterdir()} == {*names, PROGRAM, *SHARED}
    config = json.loads((folder / "config.json").read_text())
    assert config["architecture"] == "dartsformer_lm" and config["max_positions"] == [40]
    assert Genotype.from_json(json.dumps(config["genotype"]), "config") == GENOTYPE
    state = torch.load(checkpoint)["model"]
    weights = load_file(folder / "model.safetensors")
    assert all(torch.equal(weights[name], state[name]) for name in weights)


def test_int8_and_text_processing(exported, tmp_path):
    """With Moses' rules for the language of `--lang`, and BPE; other codes are one line."""
    checkpoint, _ = exported("transformer_lm")
    folder, codes = tmp_path / "out", tmp_path / "codes"
    codes.write_text("#version: 0.2\nw 1</w>\n")
    given = ["-o", str(folder), "--int8", "--codes", str(codes), "--moses"]
    line = attempt("export", str(checkpoint), *given).line
    assert line.startswith("--lang is missing: the checkpoint of a language model")
    given += "--lang en --normalise no --lower-case yes".split()
    outcome = attempt("export", str(checkpoint), *given)
    assert outcome.status == 0, outcome
    assert b"DynamicQuantizeLinear" in (folder / "decoder.onnx").read_bytes()
    run = run_program(folder / PROGRAM, " W1   w1\x01 \n", "--max-len-b", "2")
    assert run.stdout == "w1 w1\n", run.stderr
    moses = json.loads((folder / "config.json").read_text())["moses"]
    assert moses == {"normalise": False, "lower_case": True}
    (folder / "codes").write_text("#version: 0.2\nw 2</w>\n")
    assert "codes: ValueError: is not the file that was" in refusal(folder, PROGRAM)


DAMAGES = {
    "config.json": ["{", "[]", '{"format": 1}', '{"format": 3}'],
    "decoder.onnx": ["", "junk", "\0" * 1000],
    "dict.txt": ["", "w1 1\n", "w1 1\n" * 1000],
}
FOREIGN = {"languages": [], "dictionaries": ["/dev/zero"], "crc32": None, "max_positions": ["w1"]}


def test_damage_is_one_line_and_long_prompts_are_left_out(exported, tmp_path, capfd):
    """A foreign graph is damage, too."""
    folder = shutil.copytree(exported("dartsformer_lm")[1], tmp_path / "copy")
    foreign = (exported("transformer_lm")[1] / "decoder.onnx").read_bytes()
    for file, texts in DAMAGES.items():
        good = (folder / file).read_bytes()
        for bad in (*map(str.encode, texts), good[: len(good) // 2], b"\xff" + good, foreign):
            (folder / file).write_bytes(bad)
            assert file in refusal(folder, PROGRAM)
        (folder / file).write_bytes(good)
    good = (folder / "config.json").read_text()
    for name, value in FOREIGN.items():
        (folder / "config.json").write_text(json.dumps({**json.loads(good), name: value}))
        assert re.search(r"config\.json: |/zero: FileNotFoundError", refusal(folder, PROGRAM))
    (folder / "config.json").write_text(good)
    assert capfd.readouterr().err == ""
    run = run_program(folder / PROGRAM, "w1 " * 40 + "\n")
    assert run.returncode == 0 and run.stdout == "\n"
    assert run.stderr == "line 1: 40 tokens, at most 39 are possible: its output is empty\n"


@pytest.mark.parametrize(
    ("option", "value"),
    [("--temperature", "0"), ("--seed", "-1"), ("--beam", "0"), ("--max-len-a", "nan")],
)
def test_bad_options(exported, option, value):
    run = run_program(exported("dartsformer_lm")[1] / PROGRAM, "w1\n", option, value)
    assert run.returncode == 2
    assert re.search(rf"error: {option} is {value}.*, it must be at least", run.stderr)


def test_checkpoints_that_are_not_exported(data, tmp_path):
    train(TEXT_SEARCH, data, tmp_path / "search", "--max-update", "2")
    limited = [*TEXT.split(), *KINDS["dartsformer_lm"][:-3], *KINDS["dartsformer_lm"][-2:]]
    limited += "--output-dictionary-size 20".split()
    train(limited, data, tmp_path / "limited", "--max-update", "1", "--disable-validation")
    adaptive = [
        *TEXT.split(),
        *TRANSFORMER.split()[:-1],
        *"--adaptive-input --max-update 1".split(),
    ]
    adaptive += "--adaptive-input-cutoff 20 --disable-validation".split()
    train(adaptive, data, tmp_path / "adaptive")
    for name, pattern in {
        "search": "is a checkpoint of dartsformer_lm_search, expected dartsformer or",
        "limited": "--output-dictionary-size is 20, of ",
        "adaptive": "--adaptive-input, --character-embeddings: a model with them cannot",
    }.items():
        checkpoint = tmp_path / name / "checkpoints" / "checkpoint_last.pt"
        line = attempt("export", str(checkpoint), "-o", str(tmp_path / "out")).line
        assert re.search(pattern, line), line
    assert not (tmp_path / "out").exists()
