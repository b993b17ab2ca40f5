"""Checkpoints that are damaged, foreign, or would run code."""

import os
import pickle
import re
import warnings
from argparse import Namespace
from fractions import Fraction

import pytest
import torch
from helpers.bad_checkpoints import Touch, saved
from helpers.snapshots import search_state

from fairseq_dartsformer.errors import InputError
from fairseq_dartsformer.fairseq_patches import load_checkpoint

STATE = search_state()
OLD = {"_use_new_zipfile_serialization": False}
FOREIGN = "is damaged, or not a fairseq checkpoint"
CODE = "holds {}: expected tensors and plain types, which cannot run code$"
UNREADABLE = {
    "nothing": (b"", rf"{FOREIGN} \(EOFError\)"),
    "text": (b"hello", FOREIGN),
    "pickle": (pickle.dumps(Touch("x"), protocol=5), FOREIGN),
    "old pickle": (pickle.dumps(Touch("x"), protocol=2), CODE.format(f"{os.name}.mkdir")),
    "cut": (saved(STATE)[:-500], FOREIGN),
    "old, cut": (saved(STATE, **OLD)[:28], FOREIGN),
    "a list": (saved([1]), FOREIGN),
    "a model alone": (saved({"model": {}}), FOREIGN),
    "code": (saved(STATE | {"args": Touch("x")}), CODE.format(f"{os.name}.mkdir")),
    "old code": (saved(STATE | {"args": Touch("x")}, **OLD), CODE.format(f"{os.name}.mkdir")),
    "a class": (saved(STATE | {"x": Fraction(1)}), CODE.format("fractions.Fraction")),
}


@pytest.mark.parametrize("kind", UNREADABLE)
def test_one_line_says_why_a_file_is_no_checkpoint(tmp_path, kind):
    path = tmp_path / "c.pt"
    content, reason = UNREADABLE[kind]
    path.write_bytes(content)
    with pytest.raises(InputError) as error, warnings.catch_warnings():
        warnings.simplefilter("error")  # the terminal would show them beside the line
        load_checkpoint(str(path))
    assert re.match(re.escape(f"checkpoint {path} ") + reason, str(error.value))
    assert "weights_only" not in str(error.value)  # torch recommends to load unsafely


@pytest.mark.parametrize("how", [{}, OLD])
def test_checkpoint_of_either_format_is_read(tmp_path, how):
    (tmp_path / "c.pt").write_bytes(saved(STATE, **how))
    read = load_checkpoint(str(tmp_path / "c.pt"))
    for name, value in STATE["model"].items():
        torch.testing.assert_close(read["model"][name], value, rtol=0, atol=0)


RUNS_CODE = [
    "__import__('os').system('true')",
    "[1 for torch.load in [exec]]",
    "(torch := exec)",
    "(lambda: 0)",
    "f'{exec}'",
    "${oc.env:HOME}",
    "-" * 99999 + "1",  # too deep to be parsed
]
HARMLESS = [
    "(0.9, 0.98)",
    "[(512, 10, 5)] + [(512, 3, 2)] * 4",
    '{"version": 1, "encoder": [["ffn", null]], "pooling": "max"}',
    "data-bin/wmt.en-de",
    "some text (of a user)",
    "pt-BR",
    "",
]


@pytest.mark.parametrize("group", ["model", "criterion", "optimizer", "lr_scheduler", "task"])
@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("kind", [dict, lambda options: Namespace(**options)])
def test_options_that_would_run_code_are_refused(tmp_path, group, nested, kind):
    path = tmp_path / "c.pt"

    def load(text: str) -> None:
        options = {"_name": "x", "encoder": {"layers": ["2", text]} if nested else text}
        torch.save(STATE | {"cfg": {**STATE["cfg"], group: kind(options)}}, path)
        load_checkpoint(str(path))

    for text in RUNS_CODE:
        with pytest.raises(InputError, match=f"an option of its {group} is .*could run code"):
            load(text)
    for text in HARMLESS:
        load(text)


@pytest.mark.parametrize("option", ["data", "encoder_embed_path", "latency_table", "arch_subset"])
def test_paths_may_look_like_calls(tmp_path, option):
    path = tmp_path / "c.pt"
    torch.save(STATE | {"cfg": {**STATE["cfg"], "task": {option: "corpus(1)"}}}, path)
    load_checkpoint(str(path))
