"""Bounds at which a search warns or stops.

DARTS tends to choose more and more operations that compute nothing the longer it runs. DARTS+
(Liang et al. 2019, arXiv:1909.06035) stops when a cell has too many of them, or when the ranking of
its operations no longer changes.
"""

from __future__ import annotations

from ..search_space.alpha import mean_entropy
from .options import SearchOptions, at_least, read_names, read_option
from .snapshot import SKIPS, Snapshot

# Our choice. Among eight nodes drawn uniformly, as at the start of the paper's search, more than
# half are skips in 3 of 1,000 cases.
WARN_SKIP_SHARE = 0.5


def check_options(cfg: SearchOptions) -> None:
    """Raise an :class:`InputError` if a bound is out of range."""
    never = "lie in [0, 1]; 1 never warns"
    read_option(cfg, "warn_skip_share", None, lambda share: 0 <= share <= 1, never)
    read_option(cfg, "stop_entropy", None, lambda nats: nats > 0, "be above 0")
    read_names(cfg.derive_exclude, "--derive-exclude")
    for option in ("stop_skips", "stop_unchanged"):
        at_least(cfg, option, 1)


def warning_of_skips(cfg: SearchOptions, snapshot: Snapshot) -> str | None:
    """Return a warning if too many nodes would compute nothing."""
    bound = WARN_SKIP_SHARE if cfg.warn_skip_share is None else cfg.warn_skip_share
    skips, nodes = snapshot.skips, len(snapshot.best)
    if len(skips) / nodes <= bound:
        return None
    return (
        f"{' or '.join(SKIPS)} is the best of {len(skips)} of {nodes} nodes, "
        f"{len(skips) / nodes:.0%}, more than --warn-skip-share {bound:g}, after "
        f"{snapshot.updates} updates (alpha's entropy is "
        f"{mean_entropy(snapshot.weights.values()):.4f}): {', '.join(map(' '.join, skips.items()))}"
    )


def reason_to_stop(cfg: SearchOptions, snapshot: Snapshot, unchanged: int) -> str | None:
    """Return the user's bound that is reached, if any; ``unchanged`` updates ago the genotype last
    changed. It depends only on alpha, so that all workers agree."""
    if cfg.stop_skips is not None and len(snapshot.skips) >= cfg.stop_skips:
        skips = " or ".join(SKIPS)
        return f"{skips} is the best of {len(snapshot.skips)} nodes (--stop-skips {cfg.stop_skips})"
    entropy = mean_entropy(snapshot.weights.values())
    if cfg.stop_entropy is not None and entropy <= cfg.stop_entropy:
        return f"alpha's entropy is {entropy:.4f} (--stop-entropy {cfg.stop_entropy})"
    if cfg.stop_unchanged is not None and unchanged >= cfg.stop_unchanged:
        return (
            f"the genotype has not changed for {unchanged} updates "
            f"(--stop-unchanged {cfg.stop_unchanged})"
        )
    return None
