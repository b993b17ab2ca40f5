"""`examples/nas_benchmark/verses.sh`: a small table by one command, and searches of any length."""

import csv
import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "examples" / "nas_benchmark"))
from searching import Search
from settings import DENSE, SETTINGS, options, scaled

SCRIPT = Path(__file__).parents[2] / "examples" / "nas_benchmark" / "verses.sh"
SIZES = "--updates 8 --count 2 --searches 1".split()
RUNS = ["random-000.seed1", "random-001.seed1", "darts.seed1", "darts-1.seed1"]


def start(out: Path, *arguments: str) -> subprocess.Popen:
    """Start the script with the commands of this interpreter's environment."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    settings = {"PATH": path, "PYTHONWARNINGS": "ignore", "CUDA_VISIBLE_DEVICES": ""}
    command = ["bash", SCRIPT, out, *arguments]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, env=os.environ | settings, **pipes)


@pytest.fixture
def out(tmp_path) -> Path:
    """A folder of the script that has its text already; fairseq validates in batches of eight."""
    (tmp_path / "text").mkdir()
    for split, count in (("train", 64), ("valid", 16), ("test", 4)):
        for language, words in (("en", "the house of"), ("de", "das Haus von")):
            lines = [f"{split} {words} {'tree ' * (i % 5)}{i % 7}.\n" for i in range(count)]
            (tmp_path / "text" / f"{split}.{language}").write_text("".join(lines))
    (tmp_path / "text.done").touch()
    return tmp_path


@pytest.mark.long
def test_two_starts_share_the_runs(out):
    """Every run is made once, whichever start makes it; both end with the same result."""
    starts = [start(out, *SIZES), start(out, *SIZES, "--jobs", "2")]
    printed = [process.communicate(timeout=600) for process in starts]
    assert [process.returncode for process in starts] == [0, 0], printed
    begun = re.findall(r"\] (\S+): start$", printed[0][0] + printed[1][0], re.MULTILINE)
    assert Counter(begun) == Counter(RUNS)
    results = [output[output.index("] result\n") :] for output, _ in printed]
    assert results[0] == results[1] and "\n| darts |" in results[0]

    tables = {path.stem: list(csv.DictReader(path.open())) for path in out.glob("verses*.csv")}
    assert {name: len(rows) for name, rows in tables.items()} == {
        "verses": 2,
        "verses-found": 1,
        "verses-searches": 1,
    }
    (search,), (found,) = tables["verses-searches"], tables["verses-found"]
    assert search["updates"] == "2" and float(found["loss_8"]) > 0
    assert all(found[name] == search[name] for name in ("pooling", "norm", "encoder", "decoder"))

    again = start(out, *SIZES)
    output, _ = again.communicate(timeout=600)
    assert again.returncode == 0 and ": start" not in output and output.endswith(results[0])
    other = start(out, *SIZES, "--count", "3")
    _, error = other.communicate(timeout=600)
    assert other.returncode == 1
    assert f"{out} was made with other options (" in error and len(error.splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--updates 12", "--updates is 12, it must be a multiple of 8"),
        ("--jobs 0", "--jobs is 0, it must be a positive integer"),
        ("--count 1", "--count is 1, it must be 2 or more"),
        ("--seeds 1", "unknown option: --seeds"),
    ],
)
def test_bad_input_is_one_line(tmp_path, arguments, message):
    process = start(tmp_path / "out", *arguments.split())
    output, error = process.communicate(timeout=60)
    assert process.returncode == 1 and output == "" and not list(tmp_path.iterdir())
    assert message in error and len(error.splitlines()) == 1


@pytest.mark.parametrize("strategy", SETTINGS)
def test_searches_of_any_length_cost_the_same(strategy, tmp_path):
    """Within half an update; cheap strategies are limited. Alpha and pruning move with the end."""
    for budget in (1, 4, 500, 1000, 3000):
        updates = scaled(strategy, budget)
        passes = SETTINGS[strategy].passes
        limited = SETTINGS[strategy].updates * passes < 1000 * DENSE - passes
        assert updates >= 1
        if limited:
            assert updates == 4 * budget
        elif updates > 1:
            assert abs(updates - budget * DENSE / passes) <= 0.5 + budget / 2000
        words = options(strategy, updates)
        assert words[words.index("--max-update") + 1] == str(updates)
        for option, share in (("--arch-start", 1 / 5), ("--prune-at", 1 / 2)):
            if option in words:
                assert int(words[words.index(option) + 1]) <= share * updates
        assert Search(strategy, 1, tmp_path, tmp_path, budget).updates == updates
    assert scaled(strategy, 1000) == SETTINGS[strategy].updates
