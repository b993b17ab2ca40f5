"""Whatever is killed, damaged or changed, a search goes on as if nothing had happened, or says why.

`tests/long/kills.py` does the first at length.
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
from helpers.killing import compare, kill_and_resume, leaves
from helpers.running import SEARCH, start_workers, train, train_workers, training
from test_bad_input import check_line, files

from fairseq_dartsformer.errors import InputError
from fairseq_dartsformer.fairseq_patches import load_checkpoint


@pytest.mark.parametrize(
    ("workers", "kills", "options"),
    [
        (1, 2, ""),
        (2, 1, "--num-workers 1"),  # processes that hold connections when their parent is killed
    ],
)
def test_killed_at_random(data, tmp_path, workers, kills, options):
    tally = kill_and_resume(data, tmp_path, Random(workers), workers, kills, 1, options.split())
    assert tally.kills == kills and tally.in_writes >= 1 and tally.resumes >= 1
    assert tally.compared > 1e6 and tally.differing == {}
    assert tally.waited < 60


# -- damage


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


def test_flipped_bit_is_noticed(searched, tmp_path):
    """Where it is not, it is of no consequence."""
    path = searched / "checkpoints" / "checkpoint_last.pt"
    content, expected = path.read_bytes(), leaves(load_checkpoint(str(path)))
    random, noticed = Random(1), 0
    # the catalogue of the contents stands at the end
    places = [random.randrange(8 * len(content)) for _ in range(30)]
    places += [8 * len(content) - 1 - random.randrange(8 * 4000) for _ in range(30)]
    for place in places:
        damaged = tmp_path / "checkpoint_last.pt"
        damaged.write_bytes(flip(content, place))
        try:
            assert leaves(load_checkpoint(str(damaged))) == expected, place
        except InputError as error:
            assert str(error).startswith(f"checkpoint {damaged} is damaged"), place
            noticed += 1
    assert noticed >= len(places) / 2


DAMAGE = {
    "cut": lambda content: content[: len(content) // 2],
    "empty": lambda content: b"",
    "zeroed": lambda content: bytes(len(content)),
    "flipped": lambda content: flip(content, 4 * len(content)),
    "missing": None,
}


def damage(path: Path, how) -> None:
    path.unlink() if how is None else path.write_bytes(how(path.read_bytes()))


@pytest.mark.parametrize("how", DAMAGE.values(), ids=DAMAGE)
@pytest.mark.parametrize("workers", [1, 2])
def test_one_before_is_used(data, searched, tmp_path, how, workers):
    """The newest whole one, with a warning; and the end is the same."""
    shutil.copytree(searched / "checkpoints", tmp_path / "checkpoints")
    for name in ("last", "best", "1_12"):
        damage(tmp_path / "checkpoints" / f"checkpoint_{name}.pt", how)
    # Any other is not for resuming.
    shutil.copy(searched / "checkpoints" / "checkpoint_last.pt", tmp_path / "checkpoints/crash.pt")
    options = "--max-update 12 --save-interval-updates 4".split()
    if workers == 1:
        stdout = train(SEARCH, data, tmp_path, *options).stdout
        compared, differing = compare(searched / "checkpoints", tmp_path / "checkpoints")
        assert compared > 1e6 and differing == {}
    else:
        first, second = train_workers(SEARCH, data, tmp_path, *options, "--reset-dataloader")
        assert "8 updates" in first.stdout and "checkpoint" not in second.stderr
        stdout = first.stdout
    (warning,) = (line for line in stdout.splitlines() if "WARNING" in line and "goes on" in line)
    assert ("there is no" if how is None else "checkpoint_last.pt is damaged") in warning
    assert "checkpoint_1_8.pt of 8 updates" in warning


@pytest.mark.parametrize("how", ["cut", "zeroed", "flipped"])
def test_none_is_whole(data, searched, tmp_path, how):
    """One line that names each, on every worker, and nothing is changed."""
    folder = tmp_path / "checkpoints"
    shutil.copytree(searched / "checkpoints", folder)
    for path in folder.iterdir():
        damage(path, DAMAGE[how])
    before = files(folder)
    for run in start_workers(training(SEARCH, data, tmp_path), tmp_path):
        assert run.wait().status == 1
        check_line(run.stderr, f"--save-dir {folder} has no whole checkpoint to go on from")
        for path in before:
            assert f"{path} is damaged" in run.stderr
    assert files(folder) == before


# -- writing


def test_kill_while_copying_leaves_the_last_checkpoint_whole(tmp_path, monkeypatch):
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


def test_failed_write_is_begun_anew(tmp_path, monkeypatch):
    """As on a disk that was full for a moment."""
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


def test_failing_writes_leave_the_checkpoint_before(tmp_path, monkeypatch):
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
