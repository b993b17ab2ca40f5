"""Genotypes: JSON and back, and every way in which a genotype can be wrong."""

import json
from copy import deepcopy
from random import Random

import pytest

from fairseq_dartsformer.errors import InputError
from fairseq_dartsformer.operations import DECODER_OPERATIONS, ENCODER_OPERATIONS
from fairseq_dartsformer.search_space.genotype import BUILTIN, Genotype

PAPER = {
    "version": 1,
    "pooling": "max",
    "encoder": [["ffn", "ffn"], ["self_attention", "self_attention"]],
    "decoder": [
        ["ffn", "cross_attention", "cross_attention"],
        ["self_attention", "cross_attention", "cross_attention"],
    ],
}
DARTS = {
    "version": 1,
    "family": "darts_transformer",
    "encoder": [["self_attention", "ffn"]],
    "decoder": [["self_attention", "cross_attention", "ffn"], ["glu", "cross_attention", "zero"]],
}

TEXT = {
    "version": 1,
    "family": "dartsformer_lm",
    "pooling": "max",
    "decoder": [["ffn", "self_attention"], ["zero", "conv_3"]],
}
DARTS_TEXT = {
    "version": 1,
    "family": "darts_transformer_lm",
    "decoder": [["self_attention", "ffn"]],
}


@pytest.mark.parametrize("pooling", ["max", "avg"])
@pytest.mark.parametrize("decoder", [(1, 2), (2, 3), (3, 5)])
@pytest.mark.parametrize("encoder", [(1, 2), (2, 2), (2, 4)])
def test_json_and_back(encoder, decoder, pooling):
    """Blocks of any number of layers and splits."""
    choose = Random(0).choices
    layers = [[*choose(DECODER_OPERATIONS, k=decoder[1] - 1), "cross_attention"] for _ in range(3)]
    genotype = Genotype(
        [choose(ENCODER_OPERATIONS, k=encoder[1]) for _ in range(encoder[0])],
        layers[: decoder[0]],
        pooling,
    )
    text = genotype.to_json()
    again = Genotype.from_json(text, "here")
    assert again == genotype and hash(again) == hash(genotype) and again.to_json() == text
    assert (len(again.encoder), again.encoder_splits) == encoder
    assert (len(again.decoder), again.decoder_splits) == decoder


@pytest.mark.parametrize("record", [DARTS, TEXT, DARTS_TEXT], ids=lambda r: r["family"])
def test_other_families(record):
    genotype = Genotype.from_json(json.dumps(record), "here")
    assert genotype.pooling == record.get("pooling")
    assert {s: [list(layer) for layer in b] for s, b in genotype.blocks.items()} == {
        stack: record[stack] for stack in ("encoder", "decoder") if stack in record
    }
    assert json.loads(genotype.to_json()) == record
    assert Genotype.from_json(genotype.to_json(), "here") == genotype


@pytest.mark.parametrize("family", [{}, {"family": "dartsformer"}])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_builtin_text_and_file_are_one(tmp_path, family, encoding):
    text = json.dumps(PAPER | family)
    path = tmp_path / "genotype.json"
    path.write_text(text, encoding=encoding)
    for spec in ("paper_fig4_approx", text, "\n " + text, str(path), path):
        assert Genotype.load(spec) == BUILTIN["paper_fig4_approx"]


CROSS = "decoder[1][2] is 'self_attention': the last split of every decoder layer is fixed: 'cross"
SECOND = "decoder[0][1] is 'ffn': the second node of every decoder layer is fixed"
OF_PAPER = [
    (["surplus"], 1, "unknown key 'surplus': expected version, pooling"),
    (["version"], 2, "version is 2: expected 1"),
    (["family"], "darts", "family is 'darts': expected 'dartsformer' or 'darts_transformer'"),
    (["family"], "darts_transformer", "pooling is 'max': expected none"),
    (["pooling"], "mean", "pooling is 'mean': expected 'max' or 'avg'"),
    (["encoder"], [], "encoder has length 0: expected a list of layers, 1 or more"),
    (["encoder", 0], ["ffn"], "encoder[0] has length 1: expected a list of operations"),
    (["encoder", 1], ["ffn"] * 3, "encoder[1] has length 3: expected 2, as encoder[0] has"),
    (["decoder", 1], ["ffn", "cross_attention"], "decoder[1] has length 2: expected 3"),
    (["encoder", 0, 1], "fnn", "encoder[0][1] is 'fnn': expected one of conv_3, "),
    (["encoder", 0, 1], "cross_attention", "encoder[0][1] is 'cross_attention': expected one"),
    (["decoder", 1, 2], "self_attention", CROSS),
]
OF_DARTS = [
    (["encoder", 0], ["ffn"] * 3, "encoder[0] has length 3: expected 2, as darts_transformer"),
    (["decoder"], [["ffn", "cross_attention"]], "decoder[0] has length 2: expected 3, as dart"),
    (["decoder", 0, 1], "ffn", SECOND),
    (["family"], "dartsformer", "pooling is missing"),
]
OF_TEXT = [
    (
        ["encoder"],
        [["ffn", "ffn"]],
        "unknown key 'encoder': expected version, pooling, dec",
    ),
    (["decoder", 0, 1], "cross_attention", "decoder[0][1] is 'cross_attention': expected one of"),
    (["decoder", 0], ["ffn"], "decoder[0] has length 1: expected a list of operations"),
    (["family"], "dartsformer", "encoder is missing"),
    (["family"], "darts_transformer_lm", "pooling is 'max': expected none"),
]
ALL = ((PAPER, OF_PAPER), (DARTS, OF_DARTS), (TEXT, OF_TEXT))
CASES = [(good, *case) for good, cases in ALL for case in cases]


@pytest.mark.parametrize(("good", "place", "value", "message"), CASES)
def test_wrong_value_is_named_with_its_place(good, place, value, message):
    record = target = deepcopy(good)
    for key in place[:-1]:
        target = target[key]
    target[place[-1]] = value
    with pytest.raises(InputError) as error:
        Genotype.from_json(json.dumps(record), "here")
    assert str(error.value).startswith(f"genotype here: {message}")


@pytest.mark.parametrize("key", list(PAPER))
def test_missing_key_is_named(key):
    with pytest.raises(InputError, match=f"genotype here: {key} is missing"):
        Genotype.from_json(json.dumps({k: v for k, v in PAPER.items() if k != key}), "here")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{", "not JSON"),
        (b"[]", r"is \[\]: expected an object"),
        (b'{"version": NaN}', "NaN is not a JSON number"),
        (b'{"version": 1, "version": 1}', "key 'version' occurs twice"),
        (b'{"version": ' + b"9" * 5000 + b"}", "not JSON: Exceeds the limit"),
        (b'{"encoder": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "nested too deeply"),
        (json.dumps(PAPER).encode("utf-16"), "not UTF-8 at byte 0"),
    ],
)
def test_file_that_is_no_genotype(tmp_path, content, message):
    path = tmp_path / "genotype.json"
    path.write_bytes(content)
    with pytest.raises(InputError, match=f"genotype {path}: .*{message}"):
        Genotype.load(path)


def test_spec_that_cannot_be_read(tmp_path):
    with pytest.raises(InputError, match=r"nor a built-in genotype \(paper_fig4_approx\)"):
        Genotype.load("paper_fig5")
    for spec in (str(tmp_path), "", "a\0b", "x" * 5000):
        with pytest.raises(InputError, match="cannot be read"):
            Genotype.load(spec)


def test_wrong_values_are_refused_without_json():
    with pytest.raises(InputError, match=r"^encoder\[0\]\[0\] is 'no'"):
        Genotype([["no", "ffn"]], [["ffn", "cross_attention"]])
    with pytest.raises(InputError, match=r"^encoder is .*: expected none, as dartsformer_lm"):
        Genotype([["ffn", "ffn"]], [["ffn", "ffn"]], family="dartsformer_lm")
    with pytest.raises(InputError, match=r"^encoder is None: expected a list of layers"):
        Genotype(decoder=[["ffn", "cross_attention"]])
