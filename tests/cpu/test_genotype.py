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


def random_genotype(seed: int, encoder=(2, 2), decoder=(2, 3), pooling="max") -> Genotype:
    """Blocks of the given (layers, splits)."""
    choice = Random(seed).choice
    return Genotype(
        [[choice(ENCODER_OPERATIONS) for _ in range(encoder[1])] for _ in range(encoder[0])],
        [
            [choice(DECODER_OPERATIONS) for _ in range(decoder[1] - 1)] + ["cross_attention"]
            for _ in range(decoder[0])
        ],
        pooling,
    )


@pytest.mark.parametrize("pooling", ["max", "avg"])
@pytest.mark.parametrize("decoder", [(1, 2), (2, 3), (3, 5)])
@pytest.mark.parametrize("encoder", [(1, 2), (2, 2), (2, 4)])
def test_json_and_back(encoder, decoder, pooling):
    genotype = random_genotype(0, encoder, decoder, pooling)
    text = genotype.to_json()
    again = Genotype.from_json(text, "here")
    assert again == genotype and hash(again) == hash(genotype) and again.to_json() == text
    assert (again.encoder_block, again.encoder_splits) == encoder
    assert (again.decoder_block, again.decoder_splits) == decoder


@pytest.mark.parametrize("with_family", [True, False])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_builtin_text_and_file_are_one(tmp_path, with_family, encoding):
    text = json.dumps(PAPER | ({"family": "dartsformer"} if with_family else {}))
    path = tmp_path / "genotype.json"
    path.write_text(text, encoding=encoding)
    expected = BUILTIN["paper_fig4_approx"]
    for spec in ("paper_fig4_approx", text, "\n " + text, str(path), path):
        assert Genotype.load(spec) == expected


CROSS = "decoder[1][2] is 'self_attention': the last split of every decoder layer is fixed: 'cross"


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        (["surplus"], 1, "unknown key 'surplus': expected version, pooling"),
        (["version"], 2, "version is 2: expected 1"),
        (["version"], True, "version is True: expected 1"),
        (["version"], 1.0, "version is 1.0: expected 1"),
        (["version"], "1", "version is '1': expected 1"),
        (["family"], "darts", "family is 'darts': expected 'dartsformer' or 'darts_transformer'"),
        (["family"], None, "family is None: expected 'dartsformer' or"),
        (["family"], ["darts"], "family is ['darts']: expected 'dartsformer' or"),
        (["family"], "darts_transformer", "pooling is 'max': expected none"),
        (["pooling"], "mean", "pooling is 'mean': expected 'max' or 'avg'"),
        (["pooling"], ["max"], "pooling is ['max']: expected 'max' or 'avg'"),
        (["encoder"], [], "encoder has length 0: expected a list of layers, 1 or more"),
        (["encoder"], "ffn", "encoder is 'ffn': expected a list of layers"),
        (["encoder"], {"0": 1}, "encoder is {'0': 1}: expected a list of layers"),
        (["encoder", 0], "ffn", "encoder[0] is 'ffn': expected a list of operations, one a split"),
        (["encoder", 1], None, "encoder[1] is None: expected a list of operations"),
        (["encoder", 0], ["ffn"], "encoder[0] has length 1: expected a list of operations"),
        (["encoder", 0], [], "encoder[0] has length 0: expected a list of operations"),
        (["encoder", 1], ["ffn"] * 3, "encoder[1] has length 3: expected 2, as encoder[0] has"),
        (["decoder", 1], ["ffn", "cross_attention"], "decoder[1] has length 2: expected 3"),
        (["encoder", 0, 1], "fnn", "encoder[0][1] is 'fnn': expected one of conv_3, "),
        (["encoder", 0, 1], ["ffn"], "encoder[0][1] is ['ffn']: expected one of"),
        (["encoder", 0, 1], 3, "encoder[0][1] is 3: expected one of"),
        (["encoder", 0, 1], "cross_attention", "encoder[0][1] is 'cross_attention': expected one"),
        (["decoder", 1, 0], "FFN", "decoder[1][0] is 'FFN': expected one of"),
        (["decoder", 1, 2], "self_attention", CROSS),
    ],
)
def test_wrong_value_is_named_with_its_place(tmp_path, place, value, message):
    record = deepcopy(PAPER)
    target = record
    for key in place[:-1]:
        target = target[key]
    target[place[-1]] = value
    path = tmp_path / "genotype.json"
    path.write_text(json.dumps(record))
    with pytest.raises(InputError) as error:
        Genotype.load(str(path))
    assert str(error.value).startswith(f"genotype {path}: {message}")
    assert not str(error.value).endswith((",", ":", " "))


DARTS = {
    "version": 1,
    "family": "darts_transformer",
    "encoder": [["self_attention", "ffn"]],
    "decoder": [["self_attention", "cross_attention", "ffn"], ["glu", "cross_attention", "zero"]],
}


def test_nodes_of_a_transformer():
    genotype = Genotype.from_json(json.dumps(DARTS), "here")
    assert genotype.pooling is None and genotype.decoder[1][2] == "zero"
    assert json.loads(genotype.to_json()) == DARTS
    assert Genotype.from_json(genotype.to_json(), "here") == genotype


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"encoder": [["ffn"] * 3]}, "encoder[0] has length 3: expected 2, as darts_transformer"),
        ({"decoder": [["ffn", "cross_attention"]]}, "decoder[0] has length 2: expected 3, as dart"),
        (
            {"decoder": [["ffn", "ffn", "cross_attention"]]},
            "decoder[0][1] is 'ffn': the second node of every decoder layer is fixed",
        ),
        ({"family": "dartsformer"}, "pooling is missing"),
    ],
)
def test_wrong_nodes_of_a_transformer(change, message):
    with pytest.raises(InputError) as error:
        Genotype.from_json(json.dumps(DARTS | change), "here")
    assert str(error.value).startswith(f"genotype here: {message}")


@pytest.mark.parametrize("key", list(PAPER))
def test_missing_key_is_named(key):
    with pytest.raises(InputError, match=f"genotype here: {key} is missing"):
        Genotype.from_json(json.dumps({k: v for k, v in PAPER.items() if k != key}), "here")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not JSON"),
        ("{", "not JSON"),
        (json.dumps(PAPER) + "x", "not JSON"),
        ("[]", r"is \[\]: expected an object"),
        ("null", "is None: expected an object"),
        ('{"version": NaN}', "NaN is no JSON number"),
        ('{"version": -Infinity}', "-Infinity is no JSON number"),
        ('{"version": 1, "version": 1}', "key 'version' stands twice"),
        ('{"encoder": [{"a": 1, "a": 2}]}', "key 'a' stands twice"),
        ('{"version": ' + "9" * 5000 + "}", "not JSON: Exceeds the limit"),
        ('{"encoder": ' + "[" * 100_000 + "]" * 100_000 + "}", "nested too deeply"),
        ('{"version": ' + "[" * 500 + "]" * 500 + "}", "encoder|pooling|version"),
    ],
)
def test_text_that_is_no_genotype(text, message):
    with pytest.raises(InputError, match="genotype here: .*" + message):
        Genotype.from_json(text, "here")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\xff\xfe{}", "not UTF-8 at byte 0"),
        (json.dumps(PAPER).encode("utf-16"), "not UTF-8 at byte 0"),
        (b'{"\xe9": 1}', "not UTF-8 at byte 2"),
        (b"PK\x03\x04", "not JSON"),
    ],
)
def test_file_that_is_no_genotype(tmp_path, content, message):
    path = tmp_path / "genotype.json"
    path.write_bytes(content)
    with pytest.raises(InputError, match=message) as error:
        Genotype.load(str(path))
    assert str(path) in str(error.value)


def test_spec_that_cannot_be_read(tmp_path):
    with pytest.raises(InputError, match=r"nor a built-in genotype \(paper_fig4_approx\)"):
        Genotype.load("paper_fig5")
    for spec in (str(tmp_path), "", "a\0b", "x" * 5000):
        with pytest.raises(InputError, match="cannot be read"):
            Genotype.load(spec)


def test_wrong_values_are_refused_without_json():
    with pytest.raises(InputError, match=r"^encoder\[0\]\[0\] is 'no'"):
        Genotype([["no", "ffn"]], [["ffn", "cross_attention"]])
