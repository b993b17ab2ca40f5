"""The settings of the comparison's searches, the same for all where a source does not say more.

Every search costs as much as 1,000 updates of `darts` on 1,000 tokens, counted in candidate passes:
one candidate's forward or backward pass over one batch. With reconstruction an update costs three
passes a candidate (forward, recomputation, backward); c candidates a node make 3c passes. No
search has more than 4,000 updates. Selection by perturbation comes on top of that cost. The weights
are trained as the benchmark trains a genotype; alpha's rate is 1e-2, its betas are the source's;
alpha first moves after a fifth of the updates.

`zero` is no candidate. Its derivative is 0 whatever it replaces; where it was a candidate, alpha
went to it in all nodes of `gdas` and `dsnas` (see the README).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from fairseq_dartsformer.operations import DECODER_OPERATIONS, ENCODER_OPERATIONS

C = 12.5  # candidates of a node that compute: 12 in the encoder, 13 in the decoder
DENSE = 3 * C  # passes of an update in which all candidates run
WITH_ZERO = "-with-zero"  # follows the strategy's name if zero is a candidate
PERTURBATION = "-perturbation"  # then this, if the genotype was selected by perturbation
LATER = 4 / 5  # share of the updates in which alpha moves
BUDGET_UPDATES = 1000  # of darts
BUDGET = BUDGET_UPDATES * DENSE
MOST_UPDATES = 4000
# Passes over 1,000 tokens of an update of a genotype that is trained alone, on 2,000 tokens. It
# stores its activations, so that an update costs two passes, forward and backward.
TRAINING = 2 * 2
WARMUP = 200  # updates of a training until the peak of the rate


@dataclass(frozen=True)
class Setting:
    """How a strategy is run.

    Attributes:
        passes: mean candidate passes of an update.
        why: how they are counted.
        options: besides those that all share.
        after: passes over 1,000 tokens that follow the updates.
        left: candidates of a node that run at the end.
    """

    passes: float
    why: str
    options: str = ""
    after: float = 0
    left: float = C

    @property
    def updates(self) -> int:
        """Of a search within the budget."""
        return min(MOST_UPDATES, round(BUDGET / self.passes))

    def cost(self, updates: int) -> float:
        """Passes over 1,000 tokens of a search of this length."""
        return updates * self.passes + self.after


LOGITS = "--arch-lr 1e-2 --arch-weight-decay 0"
# The betas of DARTS' own code, which many methods began with; the DARTSformer's are (0.9, 0.98).
AS_DARTS = f"{LOGITS} --arch-adam-betas (0.5,0.999)"
NODES = 8
SELECTION_PAIRS = 400  # of 18 tokens each
HALF_PRUNED = 0.5 * DENSE + 0.5 * DENSE / 2  # half of the candidates for half of the updates

SETTINGS: dict[str, Setting] = {
    "darts": Setting(DENSE, "3c", LOGITS),
    "single_level": Setting(DENSE, "3c", LOGITS),
    "snas": Setting(DENSE, "3c", AS_DARTS),
    "dsnas": Setting(3, "3", AS_DARTS),
    "gdas": Setting(3, "3", AS_DARTS),
    "drnas": Setting(
        HALF_PRUNED,
        "3c, and 3c/2 after half of the updates",
        f"{AS_DARTS} --prune-at {{half}} --prune-keep 0.5",
        left=C / 2,
    ),
    "idarts": Setting(
        (1 + LATER * 7 / 4) * DENSE,
        "3c for the weights; every fourth update, once alpha moves, 7 · 3c more, K = 2",
        f"{AS_DARTS} --arch-interval 4",
    ),
    "darts_prime": Setting(
        (1 + LATER / 11) * DENSE,
        "3c, and 3c more when alpha moves, in the long run once in 11 updates",
        AS_DARTS,
    ),
    "unas": Setting(
        DENSE + LATER * (2 * DENSE + 2),
        "3c for the weights; once alpha moves, 2 · 3c for the soft losses, 2 for the hard ones",
        f"{LOGITS} --arch-adam-betas (0.9,0.999)",
    ),
    "prune_then_search": Setting(
        0.5 * 3 + 0.5 * DENSE / 2,
        "3 for half of the updates, then 3c/2",
        f"{LOGITS} --prune-at {{half}} --prune-keep 0.5",
        left=C / 2,
    ),
    "sequence_reward": Setting(
        3 * DENSE,
        "3c for each loss; about 3c for generating two translations",
        LOGITS,
    ),
    "uniform_sampling": Setting(
        3,
        "3; then the evolution, 1 for each of 200 genotypes over 38,000 tokens",
        after=200 * 38,
    ),
}


def setting(name: str) -> Setting:
    """That of a search, by its name in tables."""
    found = SETTINGS[name.partition("-")[0]]
    if not name.endswith(PERTURBATION):
        return found
    return replace(found, after=selection_passes(found.left) * SELECTION_PAIRS * 0.018)


def selection_passes(candidates: float, nodes: int = NODES) -> float:
    """Passes of a selection by perturbation, over all its text.

    It validates each candidate of each node. A decided node runs one candidate, the others run all;
    the node that is being decided leaves one out.
    """
    running = ((nodes - decided) * candidates - 1 + decided for decided in range(nodes))
    return candidates * sum(running) / nodes


def scaled(strategy: str, budget: int) -> int:
    """Updates of a search that costs as much as ``budget`` updates of darts, at least 1."""
    return max(1, round(SETTINGS[strategy].updates * budget / BUDGET_UPDATES))


def candidates(with_zero: bool) -> list[str]:
    """The options of the candidates."""
    words = []
    for stack, names in (("encoder", ENCODER_OPERATIONS), ("decoder", DECODER_OPERATIONS)):
        kept = [name for name in names if with_zero or name != "zero"]
        words += [f"--{stack}-operations", ",".join(kept)]
    return words


def options(strategy: str, updates: int, with_zero: bool = False) -> list[str]:
    """The options of a strategy's search of this length.

    The weights' rate has reached its peak when alpha first moves.
    """
    first = updates // 5
    found = ["--search-strategy", strategy, "--max-update", str(updates), *candidates(with_zero)]
    found += ["--warmup-updates", str(min(WARMUP, max(1, first)))]
    if strategy != "uniform_sampling":
        found += ["--arch-start", str(first)]
    return found + SETTINGS[strategy].options.format(half=updates // 2).split()
