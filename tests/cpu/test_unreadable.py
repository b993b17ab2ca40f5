"""Files that are no checkpoint: one line says why, in words that a user can do something with."""

import io
import os
import pickle
import re
import warnings
from fractions import Fraction

import pytest
import torch
from helpers.bad_checkpoints import Touch
from helpers.searches import search_state

from fairseq_dartsformer.errors import InputError
from fairseq_dartsformer.fairseq_patches import load_checkpoint


def written(value, **how) -> bytes:
    file = io.BytesIO()
    torch.save(value, file, **how)
    return file.getvalue()


STATE = search_state()
OLD = {"_use_new_zipfile_serialization": False}
FOREIGN = "does not hold what torch saves$"
CODE = "holds {}, and nothing but tensors and plain types is read, since .* could run code$"
UNREADABLE = {
    "nothing": (b"", "ends too early$"),
    "text": (b"hello", FOREIGN),
    "other text": (b"encoder\n", FOREIGN),
    "pickle's end": (b"\x80\x02.", FOREIGN),
    **{f"pickle {k}": (pickle.dumps(Touch("x"), protocol=k), FOREIGN) for k in range(6)},
    "plain pickle": (pickle.dumps({"model": {}}), FOREIGN),
    "cut": (written(STATE)[:-500], "PytorchStreamReader failed"),
    **{f"old, {n} bytes": (written(STATE, **OLD)[:n], "ends too early$") for n in (15, 16, 18, 28)},
    "a list": (written([1]), "value in it is of another type than it should be"),
    "a number": (written(1), "value in it is of another type than it should be"),
    "a model alone": (written({"model": {}}), "has no 'best_loss'$"),
    "code": (written(STATE | {"args": Touch("x")}), CODE.format(f"{os.name}.mkdir")),
    "old code": (written(STATE | {"args": Touch("x")}, **OLD), CODE.format(f"{os.name}.mkdir")),
    "a module": (written(torch.nn.Linear(1, 1)), CODE.format("torch.nn.modules.linear.Linear")),
    "a class": (written(STATE | {"x": Fraction(1)}), CODE.format("fractions.Fraction")),
}


@pytest.mark.parametrize("kind", UNREADABLE)
def test_why_a_file_is_no_checkpoint(tmp_path, kind):
    path = tmp_path / "c.pt"
    content, reason = UNREADABLE[kind]
    path.write_bytes(content)
    with pytest.raises(InputError) as error, warnings.catch_warnings():
        warnings.simplefilter("error")  # which would stand beside the line
        load_checkpoint(str(path))
    expected = f"checkpoint {path} is damaged, truncated, or not fairseq's: "
    assert re.match(re.escape(expected) + f"(it |a )?{reason}", str(error.value))


@pytest.mark.parametrize("how", [{}, OLD])
def test_what_torch_has_saved_is_read(tmp_path, how):
    (tmp_path / "c.pt").write_bytes(written(STATE, **how))
    read = load_checkpoint(str(tmp_path / "c.pt"))
    for name, value in STATE["model"].items():
        torch.testing.assert_close(read["model"][name], value, rtol=0, atol=0)
