"""Strategies for checkpoints that are altered, foreign, or would run code."""

from __future__ import annotations

import io
import os
import pickle
import zipfile
from argparse import Namespace
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hypothesis import strategies as st

from helpers.bad_inputs import JUNK, NAMES, changed


class Touch:
    """Unpickled as code would be, makes a file."""

    def __init__(self, path: Path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


TENSORS = st.sampled_from(
    [
        torch.zeros(0),
        torch.zeros(2, 2),
        torch.full((2, 2, 5), float("nan")),
        torch.zeros(3, dtype=torch.int64),
        torch.zeros(2, 2, 5, dtype=torch.complex64),
        torch.zeros(2, 2, 5).to_sparse(),
        torch.zeros(2, 2, 5, device="meta"),
    ]
)
# A surrogate alone cannot be written into a checkpoint at all.
STORABLE = JUNK.filter(lambda junk: "\\ud" not in ascii(junk)) | TENSORS


@st.composite
def altered_checkpoints(draw, good: dict[str, Any]) -> bytes:
    """A checkpoint with one to three values that are not what they were."""
    state = good
    for _ in range(draw(st.integers(1, 3))):
        state = draw(changed(state, STORABLE))
    file = io.BytesIO()
    torch.save(state, file)
    return file.getvalue()


@st.composite
def foreign_files(draw, good: dict[str, Any], marker: Path) -> bytes:
    """Files that no training has written; some make ``marker`` if they can run code."""
    touch = Touch(marker)
    how = draw(st.sampled_from(["torch", "pickle", "legacy", "zip", "script", "values", "text"]))
    if how == "torch" or how == "legacy":
        where = st.sampled_from(["model", "cfg", "extra_state", "args", "optimizer_history"])
        state = {**good, draw(where): draw(st.sampled_from([touch, [touch], {"a": touch}]))}
        file = io.BytesIO()
        torch.save(state, file, _use_new_zipfile_serialization=how == "torch")
        return file.getvalue()
    if how == "pickle":
        held = draw(st.sampled_from([touch, {"model": touch}, [1], {"model": {}}, Path, Namespace]))
        return pickle.dumps(held, protocol=draw(st.integers(0, 5)))
    if how == "zip":
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w") as archive:
            for name in draw(
                st.lists(
                    st.sampled_from(["a", "archive/data.pkl", "../up", "archive/version"]),
                    max_size=3,
                )
            ):
                archive.writestr(name, draw(st.sampled_from([b"", b"3\n", pickle.dumps(touch)])))
        return file.getvalue()
    if how == "script":
        file = io.BytesIO()
        torch.jit.save(torch.jit.script(torch.nn.Linear(1, 1)), file)
        return file.getvalue()
    if how == "values":
        file = io.BytesIO()
        values = [{}, [], 1, None, "x", torch.zeros(1), {"model": {}}, {"model": None, "cfg": None}]
        values += [{"model": OrderedDict(), "cfg": {"model": {"_name": n}}} for n in NAMES]
        values += [{"model": good["model"], "args": Namespace(arch=n)} for n in NAMES]
        values += [good["model"], {"model": good["model"]}, {**good, "cfg": None, "args": None}]
        values += [{**good, "model": np.zeros(3)}, {**good, "model": {"a": touch.path}}]
        torch.save(draw(st.sampled_from(values)), file)
        return file.getvalue()
    return draw(st.binary(max_size=99) | st.sampled_from([b"\n" * 9, b"\x80\x02.", b"PK\x03\x04"]))


# What fairseq evaluates as Python in a checkpoint's options: (group, values).
EVALUATED = [
    ("criterion", {"_name": "ctc", "wer_args": "{}", "zero_infinity": True, "post_process": "x"}),
    ("model", {"_name": "transformer", "arch": "transformer", "adaptive_softmax_cutoff": "{}"}),
    ("model", {"_name": "fconv", "arch": "fconv", "encoder_layers": "{}", "decoder_layers": "{}"}),
    ("model", {"_name": "wav2vec2", "conv_feature_layers": "{}"}),
]


@st.composite
def evaluated_checkpoints(draw, good: dict[str, Any], marker: Path) -> bytes:
    """A checkpoint with code among its options, which would make ``marker``."""
    group, values = draw(st.sampled_from(EVALUATED))
    code = draw(
        st.sampled_from(
            [
                f"__import__('os').mkdir({str(marker)!r})",
                f"[c for c in ().__class__.__mro__] + [open({str(marker)!r}, 'w')]",
            ]
        )
    )
    values = {name: code if value == "{}" else value for name, value in values.items()}
    state = {**good, "cfg": {**good["cfg"], group: {**good["cfg"][group], **values}}}
    file = io.BytesIO()
    torch.save(state, file)
    return file.getvalue()
