"""`prune_then_search` under a budget of memory (`--prune-memory`)."""

import re

import pytest
from helpers.fairseq_commands import SUPERNET, check_line, checkpoint, start, train, training
from helpers.kill_and_resume import check_same_end

from fairseq_dartsformer.errors import InputError
from fairseq_dartsformer.memory.planner import training_config
from fairseq_dartsformer.memory.pruned_search import plan_pruned
from fairseq_dartsformer.search.pruning import share_that_fits

NAMES = "conv_7,conv_11,ffn,zero"
OPERATIONS = f"--encoder-operations {NAMES} --decoder-operations {NAMES}".split()
PRUNED = [
    *SUPERNET,
    *OPERATIONS,
    *"--optimizer bilevel_adam --hidden-dim 240 --ffn-dim 600".split(),
]
PRUNED += "--search-strategy prune_then_search --prune-at 4 --prune-rounds 2".split()


@pytest.mark.parametrize("candidates", [1, 2, 13, 25])
def test_most_candidates_that_fit(candidates):
    """A budget between two sizes keeps the smaller; below the least there is an error."""

    def peak(share: float) -> int:
        count = -(-share * candidates // 1)
        return 2_000_000 + 1_000_000 * int(count)

    for count in range(1, candidates + 1):
        for extra in (1e-6, 0.0005):  # the first for rounding
            share = share_that_fits(peak, 0.002 + 0.001 * count + extra, candidates)
            assert -(-share * candidates // 1) == count
    assert share_that_fits(peak, 1000, candidates) * candidates > candidates - 1
    with pytest.raises(InputError, match=r"--prune-memory is 0.0029: .* needs up to 0.003 GB"):
        share_that_fits(peak, 0.0029, candidates)


@pytest.mark.parametrize("backprop", ["reconstruct", "store"])
def test_plan_falls_with_the_candidates(backprop):
    """By moments and gradients; with stored activations, by these, too."""
    options = "--encoder-layers 1 --decoder-layers 1 --search-layers 1 --max-tokens 200 --cpu "
    options += "--max-update 9 "
    options += f"--search-strategy prune_then_search --backprop {backprop}"
    cfg = training_config("dartsformer_search_tiny", [*options.split(), *OPERATIONS])
    one, two, three, all_ = (
        plan_pruned(cfg, 50, "darts", (count - 0.5) / 4) for count in (1, 2, 3, 4)
    )
    # The smallest is `zero`, which has neither parameters nor activations of its own.
    assert one < two < three <= all_ < 1.02 * three
    assert cfg.task.search_strategy == "prune_then_search"


def test_search_by_budget_is_that_of_its_share(data, tmp_path):
    """To the last bit, and pruned candidates have no moments; too small a budget is refused."""
    options = "--max-update 6 --disable-validation --log-interval 2 --save-interval-updates 6"
    arguments = training(PRUNED, data, tmp_path / "no", *options.split(), "--prune-memory", "1e-3")
    run = start("train", arguments, tmp_path / "no").wait()
    check_line(run, "--prune-memory is 0.001: .* give at least")
    (least,) = re.findall(r"up to ([\d.]+) GB", run.stderr)
    run = train(PRUNED, data, tmp_path / "budget", *options.split(), "--prune-memory", least)
    (count,) = map(int, re.findall(r"(\d) of 4 candidates will remain", run.stdout))
    assert count < 4
    share = ["--prune-keep", str((count - 0.5) / 4)]
    train(PRUNED, data, tmp_path / "share", *options.split(), *share)
    check_same_end(tmp_path / "budget", tmp_path / "share", 6)
    state = checkpoint(tmp_path / "share")
    assert state["model"]["encoder.remaining"].float().mean() == count / 4
    tensors = len([name for name in state["model"] if "nodes" in name])
    assert len(state["last_optimizer_state"]["state"]) < 0.9 * tensors
