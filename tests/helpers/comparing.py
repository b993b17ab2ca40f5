"""Comparisons of two trainings and of two sets of gradients."""

from pathlib import Path

from helpers.fairseq_commands import checkpoint
from helpers.kill_and_resume import leaves


def check_same_end(folder: Path, other: Path, last: int) -> None:
    """Compare weights, alpha, optimizer states, learning rates, updates and places in the data."""
    one, two = checkpoint(folder), checkpoint(other)
    for state in (one, two):
        assert state["optimizer_history"][-1]["num_updates"] == last
        assert len(state["last_optimizer_state"]["state"]) > 2
    for entry in ("model", "last_optimizer_state"):
        assert leaves(one[entry]) == leaves(two[entry]), entry
    assert one["optimizer_history"][-1] == two["optimizer_history"][-1]
    assert one["extra_state"]["train_iterator"] == two["extra_state"]["train_iterator"]


def assert_same_gradients(stored: dict, reconstructed: dict) -> None:
    """1e-9 of each tensor's largest, or 1e-15 of the model's where it is zero exactly."""
    assert stored.keys() == reconstructed.keys()
    largest = max(g.abs().max() for g in stored.values())
    for name, expected in stored.items():
        difference = (reconstructed[name] - expected).abs().max()
        bound = max(1e-9 * expected.abs().max(), 1e-15 * largest)
        assert difference <= bound, f"{name}: {difference:.3g} > {bound:.3g}"
