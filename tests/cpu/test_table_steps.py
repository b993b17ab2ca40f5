"""`examples/tables`: its commands are run once, go on, and say how they failed."""

import json
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "examples" / "tables"))
import run
from commands import Step, StepError, alone
from runner import read_score


def test_other_references_are_scored_again(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    (tmp_path / "script.py").write_text("import sys; print(sys.argv[1])")
    step = Step(tmp_path, "step", "script", ["first"], again=True)
    assert step.run()["command"] == ["script", "first"]
    again = replace(step, arguments=["second"])
    assert [again.run()["command"] for _ in range(2)] == [["script", "second"]] * 2
    assert step.log.read_text() == "first\nsecond\n"


def test_a_step_that_failed_is_run_again(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
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


def test_of_a_long_line_the_end_is_shown(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    (tmp_path / "script.py").write_text("raise SystemExit('x' * 10_000 + ' this is why')")
    with pytest.raises(StepError, match=r"this is why$") as error:
        Step(tmp_path, "step", "script", []).run()
    assert len(str(error.value)) < 1000


def test_figure1_goes_on(tmp_path, monkeypatch):
    """After an attempt that was killed within its table."""
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


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        (
            "| INFO | train_inner | epoch 001:  2 / 9 loss=7.9, ppl=9, num_updates=20, lr=1",
            "update 20: loss 7.9",
        ),
        ("generation 3: best 8.1", "generation 3: best 8.1"),
        ("| 120 | 2.00 | 0.50 |", "| 120 | 2.00 | 0.50 |"),
        ("| hidden size | a (GB) |", None),
    ],
)
def test_progress_is_shown(tmp_path, monkeypatch, capsys, line, shown):
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    (tmp_path / "script.py").write_text(f"print({line!r})")
    Step(tmp_path, "step", "script", []).run()
    assert capsys.readouterr().out == ("" if shown is None else f"   {shown}\n")


def test_what_is_shared_is_done_by_one(tmp_path, capsys):
    """A folder is one command's; another says that it waits, and enters when the first has left."""
    events = []

    def enter(name: str) -> None:
        with alone(tmp_path / "search"):
            events.append(f"{name} in")
            time.sleep(0.05)
            events.append(f"{name} out")

    with ThreadPoolExecutor() as pool, alone(tmp_path / "search"):
        futures = [pool.submit(enter, name) for name in "ab"]
        time.sleep(0.2)
        assert not events and capsys.readouterr().out.count("waiting for another command") == 2
        with alone(tmp_path / "train"):  # another folder is free
            events.append("first out")
    [future.result() for future in futures]
    assert [event.split()[1] for event in events] == ["out", "in", "out", "in", "out"]


@pytest.mark.parametrize("hypothesis, bleu", [("das ist ein Satz.", 100), ("nichts", 0)])
def test_scores(tmp_path, hypothesis, bleu):
    """Of translations that share nothing with their references, too."""
    (tmp_path / "reference").write_text("das ist ein Satz.\n" * 3)
    (tmp_path / "hypotheses").write_text(f"{hypothesis}\n" * 3)
    given = [str(tmp_path / "reference"), "--input", str(tmp_path / "hypotheses")]
    step = Step(tmp_path, "bleu", "sacrebleu", [*given, "--confidence", "--format", "json"])
    step.run()
    score = read_score(step.log.read_text())
    assert score["BLEU"] == pytest.approx(bleu) and score["confidence"] >= 0
