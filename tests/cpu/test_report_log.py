"""What a search has logged: what a report reads of it in each form, and past anything else."""

import pytest
from helpers.running import LOGGED, SEARCH, train

from fairseq_dartsformer.report.log import read_events, read_log
from fairseq_dartsformer.report.run import read_search


def test_log_and_events_agree(logged_search):
    """And the means of the intervals that the checkpoints tell of."""
    log = read_log(logged_search / "stdout")
    events = read_events(logged_search / "checkpoints")
    run = read_search(logged_search / "checkpoints")
    assert log.done and log.updates == 8
    for name in ("loss_weights", "loss_alpha", "alpha_entropy"):
        logged = log.curve("train_inner", name)
        assert [updates for updates, _ in logged] == [2, 4, 6, 8]
        # The last may not have been written out: a process of a test ends abruptly.
        shown = events.curve("train_inner", name)[:3]
        assert shown == [(u, pytest.approx(v, abs=1e-3)) for u, v in logged[:3]]
        if name.startswith("loss"):
            means = run.interval_means(name)
            assert means == [(u, pytest.approx(v, abs=2e-3)) for u, v in logged]
    valid = log.curve("valid", "loss")
    assert valid == [(s.updates, pytest.approx(s.validation, abs=1e-3)) for s in run.snapshots]


@pytest.mark.parametrize("form", ["simple", "json"])
def test_forms_of_logs(data, tmp_path, form):
    train(SEARCH, data, tmp_path, *LOGGED, "--log-format", form, "--no-save")
    log = read_log(tmp_path / "stdout")
    assert [u for u, _ in log.curve("train_inner", "loss_alpha")] == [2, 4, 6, 8]
    assert log.curve("valid", "loss") and log.curve("train_inner", "wps")


def test_log_of_a_search_that_goes_on(logged_search, tmp_path):
    """It ends where the last of its trainings ends."""
    first, log = (logged_search / "stdout").read_text(), tmp_path / "log"
    second = first.splitlines(keepends=True)
    (start,) = (i for i, line in enumerate(second) if "begin training epoch 1" in line)
    (end,) = (i for i, line in enumerate(second) if "done training" in line)
    for lines, done in (
        (0, True),
        (start, True),
        (start + 1, False),
        (end, False),
        (end + 1, True),
    ):
        log.write_text(first + "".join(second[:lines]))
        assert read_log(log).done is done


def test_a_log_may_hold_anything_else(logged_search, tmp_path):
    log = tmp_path / "log"
    log.write_text((logged_search / "stdout").read_text())
    known = read_log(log).values
    with log.open("a") as file:
        for text in ("", "{", "{}", '{"num_updates": [1]}', '{"a":' * 100_000):
            file.write(f"2020-02-20 | INFO | train_inner | {text}\n")
    assert read_log(log).values == known
