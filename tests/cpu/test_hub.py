"""Trained models in Python: fairseq's hub interface on checkpoints of every family."""

import math
import re
import shutil
import sys
import tarfile
from pathlib import Path

import pytest
import torch
from helpers.bad_checkpoints import Touch
from helpers.fairseq_commands import (
    DARTS,
    DERIVED,
    DERIVED_DARTS,
    EVOLVED,
    PLUGIN,
    SEARCH,
    TEXT_DERIVED,
    TEXT_SEARCH,
    start,
    train,
)

from fairseq_dartsformer.errors import InputError
from fairseq_dartsformer.models import (
    DARTSformerLMModel,
    DARTSformerModel,
    DARTSformerSearchModel,
    DARTSTransformerLMModel,
    DARTSTransformerModel,
    DARTSTransformerSearchModel,
    EvolvedTransformerModel,
)

KINDS = {
    DARTSformerModel: DERIVED,
    DARTSTransformerModel: DERIVED_DARTS,
    EvolvedTransformerModel: EVOLVED,
    DARTSformerSearchModel: SEARCH,
    DARTSTransformerSearchModel: DARTS,
}
TRANSLATE = "--beam 3 --lenpen 0.5 --max-len-b 20".split()
OPTIONS = {"beam": 3, "lenpen": 0.5, "max_len_b": 20}


@pytest.fixture(scope="module", params=KINDS, ids=lambda cls: cls.__name__)
def trained(request, data, tmp_path_factory) -> tuple[type, Path]:
    """A class and the folder of its checkpoints."""
    folder = tmp_path_factory.mktemp(request.param.__name__)
    train(KINDS[request.param], data, folder, "--max-update", "12")
    return request.param, folder / "checkpoints"


@pytest.fixture(scope="module")
def derived(data, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("derived")
    train(DERIVED, data, folder, "--max-update", "2")
    return folder / "checkpoints"


def lines(output: str, letter: str) -> list[list[str]]:
    """The fields of fairseq's lines of one kind, in the order of the sentences."""
    found = re.findall(rf"^{letter}-(\d+)\t(.*)$", output, re.MULTILINE)
    return [text.split("\t") for _, text in sorted(found, key=lambda line: int(line[0]))]


def test_results_are_those_of_fairseqs_commands(data, trained, tmp_path):
    """Translations of generate and interactive, and scores of references."""
    cls, folder = trained
    common = [str(data), "--user-dir", PLUGIN, "--path", f"{folder}/checkpoint_last.pt", "--cpu"]
    generate = [*common, *"--gen-subset test --required-batch-size-multiple 1".split(), *TRANSLATE]
    generated = start("generate", generate, tmp_path / "generate").wait().stdout
    sources = [fields[0] for fields in lines(generated, "S")]
    (tmp_path / "input").write_text("".join(f"{source}\n" for source in sources[:12]))
    interactive = [*common, *TRANSLATE, "--input", str(tmp_path / "input")]
    one_by_one = start("interactive", interactive, tmp_path / "interactive").wait().stdout
    scored = start("generate", [*generate, "--score-reference"], tmp_path / "score").wait().stdout

    hub = cls.from_pretrained(folder, "checkpoint_last.pt", data)
    translations = hub.translate(sources, **OPTIONS)
    assert len(translations) == 50 and len(set(translations)) > 1
    assert translations == [fields[1] for fields in lines(generated, "H")]
    assert translations[:12] == [fields[1] for fields in lines(one_by_one, "H")]
    assert hub.translate(sources[7], **OPTIONS) == translations[7]

    references = [fields[0] for fields in lines(scored, "T")]
    bits = [fields[0].split() for fields in lines(scored, "P")]
    for score, expected in zip(hub.score(sources, references), bits, strict=True):
        expected = torch.tensor([float(number) for number in expected])
        found = score["positional_scores"] / math.log(2)
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-3)
        assert score["score"] == score["positional_scores"].mean()


def test_conversions(data, trained):
    """A model gives the same scores in another precision; an ensemble of itself is itself."""
    cls, folder = trained
    pairs = ["w1 w2 w3", "w4"], ["w2 w3 w4", "w5"]
    expected = [
        s["score"] for s in cls.from_pretrained(folder, "checkpoint_last.pt", data).score(*pairs)
    ]
    twice = cls.from_pretrained(folder, "checkpoint_last.pt:checkpoint_last.pt", data)
    for name in ("eval", "cpu", "double", "float", "half", "bfloat16"):  # coarser and coarser
        found = [score["score"] for score in getattr(twice, name)().score(*pairs)]
        error = 0.05 if name in ("half", "bfloat16") else 1e-5
        torch.testing.assert_close(found, expected, rtol=0, atol=error, check_dtype=False)
        texts = twice.sample(pairs[0], sampling=True, max_len_b=9)
        assert all(type(text) is str for text in texts)


def test_each_sentence_has_one_translation(data, derived):
    hub = DARTSformerModel.from_pretrained(derived, "checkpoint_last.pt", data)
    with pytest.raises(ValueError, match="translations has 1 sentences, expected 2"):
        hub.score(["w1", "w2"], ["w1"])


@pytest.mark.parametrize("given", [{}, {"source_lang": "aa", "target_lang": "bb"}])
def test_languages_that_the_training_did_not_name(data, derived, tmp_path, given):
    """They are found in binarised data; beside dictionaries alone, the caller gives them."""
    state = torch.load(derived / "checkpoint_last.pt")
    state["cfg"]["task"].update(source_lang=None, target_lang=None, data="/missing")
    torch.save(state, tmp_path / "model.pt")
    for path in data.glob("dict.*"):
        shutil.copy(path, tmp_path)
    dictionaries = "." if given else data
    hub = DARTSformerModel.from_pretrained(
        tmp_path, data_name_or_path=dictionaries, tokenizer="moses", **given
    )
    assert hub.translate("w1 w2", **OPTIONS)
    assert (hub.cfg.tokenizer.source_lang, hub.cfg.tokenizer.target_lang) == ("aa", "bb")


def test_language_models(data, tmp_path):
    """With text processing, whose language the caller names."""
    train(TEXT_DERIVED, data, tmp_path, "--max-update", "2")
    where = (tmp_path / "checkpoints", "checkpoint_last.pt", data)
    hub = DARTSformerLMModel.from_pretrained(*where)
    assert hub.sample("w1 w2", beam=2, max_len_b=5).startswith("w1 w2")
    plain = hub.score("w1 w2 w3 .")["positional_scores"]
    with pytest.raises(InputError, match="--source-lang is missing: the tokenizer normalized_mo"):
        DARTSformerLMModel.from_pretrained(*where, tokenizer="normalized_moses")
    english = {"source_lang": "en", "target_lang": "en"}
    moses = DARTSformerLMModel.from_pretrained(*where, tokenizer="normalized_moses", **english)
    torch.testing.assert_close(moses.score("w1  w2 w3.")["positional_scores"], plain)
    with pytest.raises(InputError, match=r"use DARTSformerLMModel\.from_pretrained"):
        DARTSTransformerLMModel.from_pretrained(*where)
    train(TEXT_SEARCH, data, tmp_path / "search", "--max-update", "2")
    with pytest.raises(
        InputError, match=r"SearchModel\.from_pretrained, or derive and train a DARTSformerLMM"
    ):
        DARTSformerLMModel.from_pretrained(tmp_path / "search" / "checkpoints", *where[1:])


# -- refused, and safe


def test_another_class_is_named(data, trained):
    cls, folder = trained
    for other in KINDS.keys() - {cls}:
        with pytest.raises(InputError) as error:
            other.from_pretrained(folder, "checkpoint_last.pt", data)
        line = str(error.value)
        assert f"checkpoint_last.pt, a {cls.__name__}: use {cls.__name__}.from_pretrained" in line
        assert ("derive" in line) == ("Search" in cls.__name__)


def test_an_archive_is_left_as_it_is(data, derived, tmp_path):
    path = tmp_path / "model.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        archive.add(derived, "model")
    with pytest.raises(InputError, match=r"model\.tar\.gz, it must be a folder; unpack archives"):
        DARTSformerModel.from_pretrained(path, "checkpoint_last.pt", data)
    assert tarfile.is_tarfile(path)


@pytest.mark.parametrize("place", ["model_name_or_path", "data_name_or_path"])
def test_missing_folders(data, derived, place):
    given = {"model_name_or_path": derived, "data_name_or_path": data, place: "/missing"}
    with pytest.raises(InputError, match=f"{place} is /missing, it must be a folder"):
        DARTSformerModel.from_pretrained(checkpoint_file="checkpoint_last.pt", **given)


@pytest.mark.parametrize("place", ["model", "extra_state", "option", "user_dir"])
def test_nothing_in_a_checkpoint_runs(data, derived, tmp_path, place):
    """Neither pickled code nor code in options; the plugin that it names is not imported."""
    marker = tmp_path / "marker"
    code = f"__import__('os').mkdir({str(marker)!r})"
    plugin = tmp_path / "plugin_of_a_checkpoint"
    plugin.mkdir()
    (plugin / "__init__.py").write_text(code)
    state = torch.load(derived / "checkpoint_last.pt")
    if place == "user_dir":
        state["cfg"]["common"]["user_dir"] = str(plugin)
    elif place == "option":
        state["cfg"]["model"]["encoder_embed_path_of"] = code
    else:
        state[place] = Touch(marker)
    torch.save(state, tmp_path / "model.pt")
    if place == "user_dir":
        DARTSformerModel.from_pretrained(tmp_path, data_name_or_path=data).translate("w1")
    else:
        with pytest.raises(InputError, match="run code"):
            DARTSformerModel.from_pretrained(tmp_path, data_name_or_path=data)
    assert not marker.exists()
    if place == "user_dir":  # the test could fail
        DARTSformerModel.from_pretrained(tmp_path, data_name_or_path=data, user_dir=str(plugin))
        assert marker.exists()
        del sys.modules[plugin.name]
