"""Warnings of a collapsing search, and the bounds at which it stops."""

import itertools
import re
from types import SimpleNamespace

import torch
from helpers.fairseq_commands import SEARCH, checkpoint, train, train_workers
from helpers.kill_and_resume import check_same_end
from helpers.snapshots import search_state

from fairseq_dartsformer.search.early_stopping import reason_to_stop, warning_of_skips
from fairseq_dartsformer.search.snapshot import SKIPS, Snapshot, snapshot_of
from fairseq_dartsformer.search_space.alpha import mean_entropy

LAST = 16  # updates
# All four nodes of the encoder must skip, and none of the decoder.
SKIPPING = "--encoder-operations identity,zero --decoder-operations conv_3,ffn"


def options(**given):
    names = ("warn_skip_share", "stop_skips", "stop_entropy", "stop_unchanged")
    return SimpleNamespace(**dict.fromkeys(names) | given)


def snapshot(best: list[str]) -> Snapshot:
    """A snapshot in which the given operations are the best of the eight nodes."""
    names, found = iter(best), snapshot_of(search_state(0), "")
    for node in found.nodes():
        place = found.candidates[node.stack].index(next(names))
        found.alpha_of(node)[place] = found.alpha_of(node).max() + 1
    return found


def test_skips_are_counted_and_named():
    generator = torch.Generator().manual_seed(0)
    candidates = ["conv_3", "ffn", "glu", *SKIPS]
    for _ in range(50):
        drawn = torch.randint(len(candidates), (8,), generator=generator)
        best = [candidates[i] for i in drawn]
        seen = snapshot(best)
        assert list(seen.best.values()) == best
        count = sum(operation in SKIPS for operation in best)
        for bound in (0, 0.25, 0.5, 1):
            warning = warning_of_skips(options(warn_skip_share=bound), seen)
            assert (warning is not None) == (count / 8 > bound)
            if warning:
                assert f"{count} of 8 nodes, {count / 8:.0%}" in warning
                named = re.findall(r"(\w+ layer \d split \d) (\w+)", warning)
                assert named == [item for item in seen.best.items() if item[1] in SKIPS]
        for bound in range(1, 9):
            assert bool(reason_to_stop(options(stop_skips=bound), seen, 0)) == (count >= bound)


def test_bounds_of_entropy_and_of_time():
    seen = snapshot(["ffn"] * 8)
    entropy = float(mean_entropy(seen.weights.values()))
    assert reason_to_stop(options(stop_entropy=entropy + 1e-4), seen, 0)
    assert not reason_to_stop(options(stop_entropy=entropy - 1e-4), seen, 0)
    for bound, unchanged in itertools.product((1, 5, 9), repeat=2):
        reason = reason_to_stop(options(stop_unchanged=bound), seen, unchanged)
        assert bool(reason) == (unchanged >= bound)
    assert reason_to_stop(options(), snapshot(["zero"] * 8), 10**9) is None


def stops(stdout: str) -> list[str]:
    """The reasons for which a search stopped."""
    return re.findall(r"stopping the search: (.*)", stdout)


def test_search_stops_and_can_go_on(data, tmp_path):
    """Snapshots are taken at 3, 6, 9 ..."""
    arguments = f"--max-update {LAST} --log-interval 3 --arch-lr 1e-9 {SKIPPING}".split()
    stopped, other = tmp_path / "stopped", tmp_path / "other"
    (reason,) = stops(train(SEARCH, data, stopped, *arguments, "--stop-skips", "4").stdout)
    assert "identity or zero is the best of 4 nodes" in reason
    assert checkpoint(stopped)["optimizer_history"][-1]["num_updates"] == 3
    bounds = "--stop-skips 5 --stop-entropy 0.1 --stop-unchanged 100".split()
    for folder in (stopped, other):
        assert not stops(train(SEARCH, data, folder, *arguments, *bounds).stdout)
    check_same_end(stopped, other, LAST)


def test_resumed_search_remembers_the_last_change(data, tmp_path):
    arguments = f"--log-interval 3 --arch-lr 1e-9 {SKIPPING} --stop-unchanged 7".split()
    for most in (8, LAST):
        run = train(SEARCH, data, tmp_path, *arguments, "--max-update", str(most))
    assert stops(run.stdout) == ["the genotype has not changed for 9 updates (--stop-unchanged 7)"]
    assert checkpoint(tmp_path)["optimizer_history"][-1]["num_updates"] == 12


def test_workers_stop_together_and_the_first_alone_warns(data, tmp_path):
    arguments = f"--max-update {LAST} --log-interval 2 --arch-lr 1e-9 {SKIPPING}".split()
    arguments += "--warn-skip-share 0.4 --stop-unchanged 4".split()
    first, second = train_workers(SEARCH, data, tmp_path, *arguments, record=True)
    assert first.steps[-1].updates == second.steps[-1].updates == 6
    assert first.stdout.count("than --warn-skip-share") == 1  # not at every snapshot
    assert "skip-share" not in second.stdout and "stopping the search" not in second.stdout
