"""`examples/tables`: commands run once, resume, and report their failures."""

import json
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "examples" / "tables"))
import run
from commands import Step, StepError, alone


@pytest.fixture(autouse=True)
def scripts(tmp_path, monkeypatch) -> None:
    """Steps may run the modules in the test's folder."""
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))


def test_other_references_are_scored_again(tmp_path):
    (tmp_path / "script.py").write_text("import sys; print(sys.argv[1])")
    step = Step(tmp_path, "step", "script", ["first"], again=True)
    assert step.run()["command"] == ["script", "first"]
    again = replace(step, arguments=["second"])
    assert [again.run()["command"] for _ in range(2)] == [["script", "second"]] * 2
    assert step.log.read_text() == "first\nsecond\n"


def test_a_step_that_failed_is_run_again(tmp_path):
    step = Step(tmp_path, "step", "script", [])
    (tmp_path / "script.py").write_text("print('so far so good'); raise SystemExit(3)")
    with pytest.raises(StepError, match=r"(?s)step failed with status 3.*so far so good"):
        step.run()
    before = json.loads(step.path.read_text())
    assert before["status"] == 3
    (tmp_path / "script.py").write_text("print('done')")
    record = step.run()
    assert record["status"] == 0 and record["seconds"] > before["seconds"]
    assert step.log.read_text() == "so far so good\ndone\n"


def test_figure1_is_read_from_the_last_attempt(tmp_path, monkeypatch):
    """The last attempt's table counts; the first one was killed while it printed."""
    head = "| hidden size | a (GB) | b (GB) |\n|---|---|---|\n"
    folder = tmp_path / "tiny"
    folder.mkdir()
    (folder / "figure1.log").write_text(head + "| 24 |")

    def execute(step: Step, record: dict) -> None:
        with step.log.open("a") as log:
            log.write(head + "| 24 | 2.00 | 0.50 |\n| 48 | 4.00 | 3.00 |\nwrote it\n")
        record["status"] = 0

    monkeypatch.setattr(Step, "_execute", execute)
    run.main(["figure1", "--scale", "tiny", "--out", str(tmp_path)])
    text = (folder / "figure1.md").read_text()
    assert head + "| 24 | 2.00 | 0.50 |\n| 48 | 4.00 | 3.00 |\n\n" in text
    assert text.count("| 24 |") == 1 and "is 0.50 of DARTS's" in text


def test_progress_is_shown(tmp_path, capsys):
    lines = ["| train_inner | epoch 1: loss=7.9, ppl=9, num_updates=20, lr=1"]
    lines += ["generation 3: best 8.1", "| hidden size | a (GB) |"]
    (tmp_path / "script.py").write_text(f"print(*{lines!r}, sep='\\n')")
    Step(tmp_path, "step", "script", []).run()
    shown = "   update 20: loss 7.9\n   generation 3: best 8.1\n"
    assert capsys.readouterr().out == shown


def test_one_command_at_a_time_works_in_a_folder(tmp_path, capsys):
    """Another one waits until the first has left; other folders are free."""
    entered = threading.Event()

    def enter() -> None:
        with alone(tmp_path / "search"):
            entered.set()

    with alone(tmp_path / "search"), alone(tmp_path / "train"):
        thread = threading.Thread(target=enter)
        thread.start()
        while "waiting for another command" not in capsys.readouterr().out:
            assert thread.is_alive()
        assert not entered.is_set()
    thread.join()
    assert entered.is_set()
