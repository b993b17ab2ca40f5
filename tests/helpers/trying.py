"""Bad inputs, drawn by the number and tried: where, and what must have come of it."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from unittest.mock import patch

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from hypothesis.errors import HypothesisException
from hypothesis.internal.conjecture.engine import ConjectureRunner
from tensorboardX import SummaryWriter

from helpers.attempting import Outcome, Unclear, attempt
from helpers.running import DARTS, DERIVED, EVOLVED, PLUGIN, SAMPLING, SEARCH, training

KINDS = {
    "search": SEARCH,
    "darts": DARTS,
    "sampling": SAMPLING,
    "derived": DERIVED,
    "evolved": EVOLVED,
}


# Of ``dartsformer-evolve``, which takes a second by them.
EVOLVE = "--cpu --workers 1 --generations 1 --population 4 --parents 2 --mutations 1".split()
EVOLVE += ["--crossovers", "1"]
GENERATE = f"--user-dir {PLUGIN} --cpu --quiet --beam 1 --max-len-b 3 --num-workers 0".split()
LOG = """2026-01-01 00:00:00 | INFO | train_inner | epoch 001: 2 / 9 loss=7.9, num_updates=2
2026-01-01 00:00:01 | INFO | train_inner | {"epoch": 1, "loss": "7.8", "num_updates": "4"}
2026-01-01 00:00:02 | INFO | valid | epoch 001 | valid on 'valid' subset | loss 7.7 | num_updates 4
2026-01-01 00:00:03 | INFO | fairseq_cli.train | done training in 0.1 seconds
"""


@dataclass
class Place:
    """Where inputs are: good data and checkpoints, and a new folder for each attempt.

    Attributes:
        folder: of all this.
        data: binarised.
        checkpoints: by the kind of training that wrote it, each after two updates.
        files: what commands read besides, by the kind: `table`, `history`, `log` and `events`.
    """

    folder: Path
    data: Path
    checkpoints: dict[str, Path] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)
    numbers: Iterator[int] = field(default_factory=count)

    def __post_init__(self):
        for kind, options in KINDS.items():
            path = self.folder / kind
            attempt("train", *training(options, self.data, path, "--max-update", "2")).expect()
            self.checkpoints[kind] = path / "checkpoints" / "checkpoint_last.pt"
        search, made = str(self.checkpoints["search"]), self.folder / "made"
        made.mkdir()
        attempt("plot", search, "-o", f"{made}/table.tsv").expect()
        evolve = [search, str(self.data), "-o", f"{made}/x", "--history", f"{made}/history"]
        attempt("evolve", *evolve, *EVOLVE).expect()
        with SummaryWriter(str(made), filename_suffix=".x") as writer:
            for update in range(4):
                writer.add_scalar("loss", 5 - update, update)
        for kind, name in {"table": "table.tsv", "history": "history", "events": "events*"}.items():
            (path,) = made.glob(name)
            self.files[kind] = path.read_bytes()
        self.files["log"] = LOG.encode()
        self.good = contents(self.folder) | contents(self.data)

    @contextmanager
    def new_folder(self) -> Iterator[Path]:
        """A new folder, removed in the end; sees that nothing outside of it has been touched."""
        folder = self.folder / "attempts" / str(next(self.numbers))
        folder.mkdir(parents=True)
        try:
            yield folder
        finally:
            shutil.rmtree(folder)
        assert contents(self.folder) | contents(self.data) == self.good


def contents(folder: Path) -> dict[Path, bytes]:
    """All files in a folder."""
    found = {}
    for path in folder.rglob("*"):
        with suppress(OSError):
            found[path] = path.read_bytes() if path.is_file() else b""
    return {path: content for path, content in found.items() if path.is_file()}


def check(outcome: Outcome, before: dict[Path, bytes], folder: Path, *names: str) -> str:
    """Whether a command worked; or refused, lost nothing, and named what is at fault.

    Args:
        outcome: of the command.
        before: contents of the folder, before it.
        folder: that it worked in.
        names: any of these must stand in the line.

    Raises:
        Unclear: it did not.
    """
    after = contents(folder)
    if outcome.kind == "refused":
        if names and not any(name in outcome.line for name in names):
            raise Unclear(f"{outcome.command} names none of {names}: {outcome.line}")
        if after != before:
            touched = {
                str(p) for p in after.keys() | before.keys() if after.get(p) != before.get(p)
            }
            raise Unclear(f"{outcome.command} refused, having touched {touched}: {outcome.line}")
    return outcome.kind


# What tries one input, drawn from the data: returns the outcome's kind.
Property = Callable[[st.DataObject, Place], str]


def explore(
    kind: Property, place: Place, examples: int, failed: Callable[[Exception], None] | None = None
) -> Counter[str]:
    """How many of so many drawn inputs worked or were refused.

    Args:
        kind: of inputs.
        place: to try them in.
        examples: how many, always the same.
        failed: called with what went wrong, which is counted then; without it, that is raised.
    """
    tally: Counter[str] = Counter()

    @settings(
        max_examples=examples,
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate],  # shrinking would try for minutes
    )
    @given(st.data())
    def once(data: st.DataObject) -> None:
        try:
            found = kind(data, place)
        except Exception as error:
            if failed is None or isinstance(error, HypothesisException):
                raise
            failed(error)
            found = "failed"
        tally[found] += 1

    # Else most inputs are variants of the ones before, and a try may take a second.
    with patch.object(ConjectureRunner, "generate_mutations_from", lambda *_: None):
        once()
    return tally
