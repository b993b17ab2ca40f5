"""Properties of checkpoints that are not as they should be, for every command that takes one.

Each draws one, tries it, and returns what came of it.
"""

from __future__ import annotations

import torch
from hypothesis import strategies as st

from helpers.attempting import Unclear, attempt
from helpers.bad_checkpoints import altered_checkpoints, evaluated_checkpoints, foreign_files
from helpers.bad_inputs import damaged
from helpers.running import training
from helpers.trying import EVOLVE, GENERATE, KINDS, Place, check, contents

CHECKPOINTS = st.sampled_from(list(KINDS))


def _use_checkpoint(content: bytes, data: st.DataObject, place: Place, kind: str) -> str:
    """Hand a file to one of the commands that take a checkpoint."""
    with place.new_folder() as folder:
        path = folder / "checkpoints" / "checkpoint_last.pt"
        path.parent.mkdir()
        path.write_bytes(content)
        before = contents(folder)
        given, out = str(path), str(folder / "x")
        resume = training(KINDS[kind], place.data, folder, "--max-update", "3")
        evolve = ["evolve", given, str(place.data), "-o", out, *EVOLVE]
        of_search = [
            ["derive", given, "-o", out],
            ["plot", given, "-o", out + ".tsv"],
            ["plot", given, "-o", out + ".svg"],
            ["report", str(path.parent), "-o", out],
            [*evolve, "--score", data.draw(st.sampled_from(["loss", "bleu"]))],
        ]
        of_any = [
            ["train", *resume],
            ["train", *resume],
            ["train", *resume, "--restore-file", given, "--save-dir", str(folder / "new")],
            ["train", *resume, "--finetune-from-model", given, "--save-dir", str(folder / "new")],
            ["average", str(place.checkpoints[kind]), given, "-o", out],
            ["average", given, "-o", out],
            [
                *["report", str(place.checkpoints["search"].parent), "-o", out],
                *["--retrained", str(path.parent)],
            ],
            ["generate", str(place.data), "--path", given, *GENERATE],
        ]
        arguments = data.draw(st.sampled_from(of_any + of_search))
        outcome = attempt(*arguments)
        if outcome.kind == "worked":
            return "worked"
        return check(outcome, before, folder, "checkpoint", str(path.parent))


def damaged_checkpoint(data: st.DataObject, place: Place) -> str:
    """Checkpoints cut short or with other bytes."""
    kind = data.draw(CHECKPOINTS)
    good = place.checkpoints[kind].read_bytes()
    return _use_checkpoint(data.draw(damaged(good)), data, place, kind)


def altered_checkpoint(data: st.DataObject, place: Place) -> str:
    """Whole checkpoints of which some values are of another type, out of range, or not there."""
    kind = data.draw(CHECKPOINTS)
    good = torch.load(place.checkpoints[kind])
    return _use_checkpoint(data.draw(altered_checkpoints(good)), data, place, kind)


def foreign_checkpoint(data: st.DataObject, place: Place) -> str:
    """Files of other kinds, some with code that must not run."""
    kind = data.draw(CHECKPOINTS)
    marker = place.folder / "code_has_run"
    files = data.draw(st.sampled_from([foreign_files] * 3 + [evaluated_checkpoints]))
    content = data.draw(files(torch.load(place.checkpoints[kind]), marker))
    try:
        return _use_checkpoint(content, data, place, kind)
    finally:
        if marker.exists():
            marker.rmdir() if marker.is_dir() else marker.unlink()
            raise Unclear("code in a checkpoint has run")


def others_checkpoint(data: st.DataObject, place: Place) -> str:
    """Checkpoints of another model or search."""
    kind, other = data.draw(CHECKPOINTS), data.draw(CHECKPOINTS)
    return _use_checkpoint(place.checkpoints[other].read_bytes(), data, place, kind)
