"""The top of a report: progress, time, cost, memory, and what is unknown."""

from pathlib import Path

import pytest
import torch
from fairseq.logging import metrics
from helpers.fairseq_commands import raw_checkpoint
from helpers.report_pages import page_of
from helpers.snapshots import search_state

from fairseq_dartsformer.report.facts import duration, facts
from fairseq_dartsformer.report.run import read_search


def facts_of(folder: Path, log: Path | None = None) -> dict[str, str]:
    """Value and note of each fact, by its name."""
    found = facts(read_search(folder, log))
    return {name: ", ".join(filter(None, texts)) for name, *texts in found}


def test_memory_is_what_is_not_free(logged_search, tmp_path):
    path = tmp_path / "log"
    lines = [
        "2026-01-01 | INFO | fairseq.utils | rank   0: capabilities =  8.0  ; "
        "total memory = 39.586 GB ; name = NVIDIA A100    "
    ]
    for updates, free in ((100, 12.5), (200, 11.1), (300, 12.0)):
        lines.append(
            f"2026-01-01 00:00:00 | INFO | train_inner | epoch 001:  {updates} / 900 loss=9.1, "
            f"wps=1000, num_updates={updates}, gb_free={free}, wall=5"
        )
    path.write_text("\n".join(lines))
    found = facts_of(logged_search / "checkpoints", path)
    assert found["memory"] == "28.5 GiB, at the peak, of 39.6 on NVIDIA A100"
    assert found["speed"].endswith("1,000 words a second")


def test_running_search(logged_search, tmp_path):
    """A search half done, whose last checkpoint is being written."""
    folder = tmp_path / "running"
    folder.mkdir()
    for updates in (2, 4):
        state = raw_checkpoint(logged_search, f"1_{updates}")
        state["cfg"]["optimization"]["max_update"] = 10
        state["extra_state"]["previous_training_time"] = 50.0 * updates
        torch.save(state, folder / f"checkpoint_1_{updates}.pt")
    whole = (folder / "checkpoint_1_4.pt").read_bytes()
    (folder / "checkpoint_last.pt").write_bytes(whole[: len(whole) // 2])
    page, html = page_of(tmp_path, folder)
    assert page.facts["updates"] == "4of 10"
    assert page.facts["time"].startswith("3 min") and page.facts["time left"].startswith("5 min")
    assert page.facts["cost"].startswith("0.0556 worker-hours")
    assert 'value="0.4"' in html and "not finished" in html
    assert f"Left out: checkpoint {folder / 'checkpoint_last.pt'} is damaged" in html
    # The log may be ahead of the checkpoints.
    log = tmp_path / "log"
    log.write_text("| INFO | train_inner | epoch 001: 6 / 9 loss=9, num_updates=6\n")
    ahead = facts_of(folder, log)
    assert ahead["updates"] == "6, of 10" and ahead["time left"].startswith("3 min")


@pytest.mark.parametrize(
    ("logged", "cost"),
    [
        (["loss"], "worker-hours, 1 CPU worker"),
        (["loss", "gb_free"], "GPU-hours, 1 GPU"),
        ([], "worker-hours, 1 worker"),
    ],
    ids=["CPU", "GPU", "unknown"],
)
def test_whose_hours(logged_search, tmp_path, logged, cost):
    """Without --cpu, the statistics tell whether there was a GPU."""
    state = raw_checkpoint(logged_search)
    state["cfg"]["common"]["cpu"] = False
    metrics.reset()
    with metrics.aggregate("train"):
        for name in logged:
            metrics.log_scalar(name, 1.5, weight=0)
    state["extra_state"]["metrics"] = metrics.state_dict()
    metrics.reset()
    torch.save(state, tmp_path / "checkpoint_last.pt")
    assert facts_of(tmp_path)["cost"].endswith(cost)


def test_durations():
    times = (None, 3, 59.6, 90, 599.4, 599.6, 3600 * 3.1, 86400 * 2.5)
    assert [duration(s) for s in times] == [
        *("unknown", "3 s", "1 min 0 s", "1 min 30 s", "9 min 59 s", "10 min"),
        *("3 h 6 min", "2 d 12 h"),
    ]


def test_a_bare_checkpoint_is_enough(tmp_path):
    """A checkpoint without time, losses and options."""
    torch.save(search_state(), tmp_path / "checkpoint_last.pt")
    page, _ = page_of(tmp_path, tmp_path)
    assert page.facts["time"].startswith("unknown") and page.facts["cost"] == "unknown"
    assert page.facts["validation"] == "unknown" and page.tags.count("svg") == 3
    state = search_state()
    state["cfg"]["dataset"] = {"disable_validation": True}
    torch.save(state, tmp_path / "checkpoint_last.pt")
    assert facts_of(tmp_path)["validation"].startswith("none")
