"""A search that was killed, or whose checkpoint was damaged, resumes with the same result.

`tests/long/kills.py` kills more often.
"""

import errno
import os
import shutil
import time
from pathlib import Path
from random import Random

import pytest
import torch
from fairseq import checkpoint_utils
from fairseq.file_io import PathManager
from helpers.fairseq_commands import (
    SEARCH,
    check_line,
    start_workers,
    train,
    train_workers,
    training,
)
from helpers.kill_and_resume import compare, kill_and_resume, leaves

from fairseq_dartsformer.errors import InputError
from fairseq_dartsformer.fairseq_patches import load_checkpoint


@pytest.mark.parametrize(
    ("workers", "kills", "options"),
    [
        # Processes that load data hold connections and files when their parent is killed.
        (1, 2, "--num-workers 1"),
        (2, 1, "--num-workers 1"),
    ],
)
def test_killed_at_random(data, tmp_path, workers, kills, options):
    tally = kill_and_resume(data, tmp_path, Random(workers), workers, kills, 1, options.split())
    assert tally.kills == kills and tally.in_writes >= 1 and tally.resumes >= 1
    assert tally.compared > 1e5 and tally.differing == []


@pytest.fixture(scope="module")
def searched(data, tmp_path_factory) -> Path:
    """A search of 12 updates, and checkpoints after 4, 8 and 12."""
    folder = tmp_path_factory.mktemp("searched")
    train(SEARCH, data, folder, *"--max-update 12 --save-interval-updates 4".split())
    return folder


def flip(content: bytes, bit: int) -> bytes:
    flipped = bytearray(content)
    flipped[bit // 8] ^= 1 << bit % 8
    return bytes(flipped)


def test_flipped_bit_is_detected_or_harmless(searched, tmp_path):
    path = searched / "checkpoints" / "checkpoint_last.pt"
    content, expected = path.read_bytes(), leaves(load_checkpoint(str(path)))
    random, detected = Random(1), 0
    # The archive's directory is at the end of the file.
    places = [random.randrange(8 * len(content)) for _ in range(30)]
    places += [8 * len(content) - 1 - random.randrange(8 * 4000) for _ in range(30)]
    for place in places:
        damaged = tmp_path / "checkpoint_last.pt"
        damaged.write_bytes(flip(content, place))
        try:
            assert leaves(load_checkpoint(str(damaged))) == expected, place
        except InputError as error:
            assert str(error).startswith(f"checkpoint {damaged} is damaged"), place
            detected += 1
    assert detected >= len(places) / 2


DAMAGE = {
    "cut": lambda content: content[: len(content) // 2],
    "empty": lambda content: b"",
    "zeroed": lambda content: bytes(len(content)),
    "flipped": lambda content: flip(content, 4 * len(content)),
    "missing": None,
}


def damage(path: Path, how) -> None:
    path.unlink() if how is None else path.write_bytes(how(path.read_bytes()))


@pytest.mark.parametrize(
    ("ways", "workers"),
    [(("cut", "zeroed", "empty"), 1), (("missing",) * 3, 1), (("flipped",) * 3, 2)],
    ids=["damaged", "missing", "flipped"],
)
def test_newest_undamaged_checkpoint_is_used(data, searched, tmp_path, ways, workers):
    """With a warning, and the search ends as before."""
    shutil.copytree(searched / "checkpoints", tmp_path / "checkpoints")
    for name, how in zip(("last", "best", "1_12"), ways, strict=True):
        damage(tmp_path / "checkpoints" / f"checkpoint_{name}.pt", DAMAGE[how])
    # Other files are not for resuming.
    shutil.copy(searched / "checkpoints" / "checkpoint_last.pt", tmp_path / "checkpoints/crash.pt")
    options = "--max-update 12 --save-interval-updates 4".split()
    if workers == 1:
        stdout = train(SEARCH, data, tmp_path, *options).stdout
        compared, differing = compare(searched / "checkpoints", tmp_path / "checkpoints")
        assert compared > 1e5 and differing == []
    else:
        first, second = train_workers(SEARCH, data, tmp_path, *options, "--reset-dataloader")
        assert "checkpoint" not in second.stderr
        stdout = first.stdout
    (warning,) = (line for line in stdout.splitlines() if "resuming from" in line)
    missing = "missing" in ways
    assert ("there is no" if missing else "checkpoint_last.pt is damaged") in warning
    assert "WARNING" in warning and "checkpoint_1_8.pt after 8 updates" in warning


def test_all_damaged_checkpoints_are_refused(data, searched, tmp_path):
    """One line on every worker names each of them, and nothing is changed."""
    folder = tmp_path / "checkpoints"
    shutil.copytree(searched / "checkpoints", folder)
    paths = list(folder.glob("*.pt"))
    for path in paths:
        damage(path, DAMAGE["zeroed"])
    before = [path.read_bytes() for path in paths]
    for run in start_workers(training(SEARCH, data, tmp_path), tmp_path):
        assert run.wait().status == 1
        check_line(run, f"all checkpoints in --save-dir {folder} are damaged")
        for path in paths:
            assert f"{path} is damaged" in run.stderr
    assert [path.read_bytes() for path in paths] == before


def test_kill_while_copying_keeps_the_last_checkpoint(tmp_path, monkeypatch):
    newest, last = tmp_path / "checkpoint_1_5.pt", tmp_path / "checkpoint_last.pt"
    newest.write_bytes(b"newest")
    last.write_bytes(b"last")

    def cut_short(source, target, **options):
        Path(target).write_bytes(b"new")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "copyfile", cut_short)
        with pytest.raises(KeyboardInterrupt):
            PathManager.copy(str(newest), str(last), overwrite=True)
    assert last.read_bytes() == b"last"
    assert PathManager.copy(str(newest), str(last), overwrite=True)
    assert last.read_bytes() == b"newest"


def test_failed_write_is_repeated_from_the_start(tmp_path, monkeypatch):
    state = {"optimizer_history": [{}], "model": {"weight": torch.arange(1000.0)}}
    path = tmp_path / "checkpoint_last.pt"
    save, tries = torch.save, []

    def fail_once(content, file):
        tries.append(file.tell())
        if len(tries) == 1:
            file.write(b"PK")
            raise OSError(errno.ENOSPC, "No space left on device")
        save(content, file)

    monkeypatch.setattr(torch, "save", fail_once)
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    checkpoint_utils.torch_persistent_save(state, str(path))
    assert tries == [0, 0]
    assert leaves(torch.load(path)) == leaves(state)


def test_failing_writes_keep_the_checkpoint_before(tmp_path, monkeypatch):
    path = tmp_path / "checkpoint_last.pt"
    path.write_bytes(b"before")

    def fail(content, file):
        raise RuntimeError("PytorchStreamWriter failed writing file")

    monkeypatch.setattr(torch, "save", fail)
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    with pytest.raises(RuntimeError):
        checkpoint_utils.torch_persistent_save({}, str(path))
    assert path.read_bytes() == b"before"


def test_checkpoint_is_on_the_disk_before_it_takes_its_place(tmp_path, monkeypatch):
    path = tmp_path / "checkpoint_last.pt"
    events = []
    fsync, rename = os.fsync, os.rename
    monkeypatch.setattr(
        os, "fsync", lambda fd: (events.append(os.readlink(f"/proc/self/fd/{fd}")), fsync(fd))
    )
    monkeypatch.setattr(
        os, "rename", lambda one, other: (events.append("renamed"), rename(one, other))
    )
    checkpoint_utils.torch_persistent_save({}, str(path))
    PathManager.copy(str(path), str(tmp_path / "checkpoint_best.pt"), overwrite=True)
    best = tmp_path / "checkpoint_best.pt.tmp"
    assert events == [f"{path}.tmp", "renamed", str(best), "renamed"]
