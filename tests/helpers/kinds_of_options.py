"""Properties of command lines that are not as they should be.

Each draws one, tries it, and returns what came of it.
"""

from __future__ import annotations

from pathlib import Path

from hypothesis import strategies as st

from helpers.attempting import attempt
from helpers.bad_options import (
    EVOLUTION,
    MEMORY,
    OTHERS,
    PLAIN_MEMORY,
    PLAIN_TRAINING,
    TRAINING,
    options,
    small_memory,
)
from helpers.running import training
from helpers.trying import EVOLVE, KINDS, Place, check

CHECKPOINTS = st.sampled_from(list(KINDS))


def training_options(data: st.DataObject, place: Place) -> str:
    """Combinations of options of ``fairseq-train``."""
    with place.new_folder() as folder:
        kind = KINDS[data.draw(CHECKPOINTS)]
        given = data.draw(options(TRAINING, PLAIN_TRAINING))
        arguments = training(kind, place.data, folder, "--max-update", "1", *given)
        return check(attempt("train", *arguments), {}, folder, "-", "data", "split")


def command_options(data: st.DataObject, place: Place) -> str:
    """Options of this project's commands, but those that plan memory."""
    with place.new_folder() as folder:
        command = data.draw(st.sampled_from(["evolve", "evolve", *OTHERS]))
        good, out = str(place.checkpoints["search"]), str(folder / "x")
        required = {
            "evolve": [good, str(place.data), "-o", out, *EVOLVE],
            "derive": [good, "-o", out],
            "average": [str(Path(good).parent), "-o", out],
            "plot": [good, "-o", out + data.draw(st.sampled_from([".tsv", ".svg", ".gif", ""]))],
            "report": [str(Path(good).parent), "-o", out],
            "parameters": [],
        }[command]
        given = data.draw(options(EVOLUTION if command == "evolve" else OTHERS[command]))
        return check(attempt(command, *required, *given), {}, folder)


def memory_options(data: st.DataObject, place: Place) -> str:
    """Options of ``dartsformer-memory``."""
    with place.new_folder() as folder:
        required = data.draw(small_memory(folder))
        given = data.draw(options(MEMORY, PLAIN_MEMORY))
        return check(attempt("memory", *required, *given), {}, folder)
