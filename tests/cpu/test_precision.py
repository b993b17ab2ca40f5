"""Half precision on the CPU: of search, derived model and baseline, through overflows too."""

import itertools
import math

import pytest
import torch
from helpers.fairseq_commands import DARTS, DERIVED, EVOLVED, SAMPLING, SEARCH, train
from helpers.training_steps import Step

from fairseq_dartsformer.search_space.levels import ALPHA, WEIGHTS

UPDATES = 24
OVERFLOWING = f"--fp16-init-scale {2**28}"
CHUNKED = "--criterion chunked_label_smoothed_cross_entropy"
OPTIONS = [
    (f"--fp16 {OVERFLOWING}", torch.float16),
    (f"--fp16 --fp16-no-flatten-grads {OVERFLOWING} --update-freq 2", torch.float16),
    ("--bf16", torch.bfloat16),
    ("--amp", torch.float32),
    (f"--amp {CHUNKED}", torch.float32),
]
SEARCHES = {"search": SEARCH, "sampling": SAMPLING, "darts": DARTS}
KINDS = SEARCHES | {"derived": DERIVED, "evolved": EVOLVED}
# Of the search every way; of the others, in which less differs, two or one.
CASES = [
    (name, *case)
    for name in KINDS
    for case in (OPTIONS if name == "search" else OPTIONS[4:] if name == "darts" else OPTIONS[::4])
]


def applied(steps: list[Step]) -> list[Step]:
    """The steps that were updates; the others must have left everything alone."""
    updates = []
    for before, after in itertools.pairwise(steps):
        if after.updates > before.updates:
            updates.append(after)
            continue
        assert after.loss is None
        for level, values in after.state.items():
            for name, value in values.items():
                if name != "gradient":
                    assert torch.equal(value, before.state[level][name]), (level, name)
    return updates


@pytest.mark.parametrize(("name", "options", "dtype"), CASES)
def test_training(data, tmp_path, name, options, dtype):
    kind = KINDS[name]
    arguments = f"--max-update {UPDATES} --no-save {options}".split()
    steps = train(kind, data, tmp_path, *arguments, record=True).steps
    updates = applied(steps)
    assert [step.updates for step in updates] == list(range(1, UPDATES + 1))
    overflows = len(steps) - 1 - UPDATES
    assert (overflows > 5) == (OVERFLOWING in options)

    assert steps[-1].state[WEIGHTS]["value"].dtype == dtype
    assert steps[-1].state[WEIGHTS]["master"].dtype == torch.float32
    if name in SEARCHES:
        assert steps[-1].state[ALPHA]["value"].dtype == torch.float32
        first, last = steps[0].state[ALPHA]["value"], steps[-1].state[ALPHA]["value"]
        assert ((last - first).abs().max() > 1e-2) == (kind in (SEARCH, DARTS))

    losses = [step.loss for step in updates]
    assert all(map(math.isfinite, losses))
    assert sum(losses[-6:]) < sum(losses[:6]) - 6 * 0.5, losses
