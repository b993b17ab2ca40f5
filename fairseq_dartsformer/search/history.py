"""Several snapshots of one search."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from ..errors import InputError
from ..search_space.alpha_history import AlphaHistory, NodeHistory
from .snapshot import Snapshot, derive


def history_of(snapshots: Iterable[Snapshot]) -> AlphaHistory:
    """Order snapshots by update into alpha's history; the last one of equal updates counts.

    Raises:
        InputError: the search spaces differ, or the strategy did not learn alpha.
    """
    snapshots = list(snapshots)
    check_one_space(snapshots)
    by_updates = {snapshot.updates: snapshot for snapshot in snapshots}
    ordered = [by_updates[updates] for updates in sorted(by_updates)]
    genotypes = [derive(snapshot) for snapshot in ordered]
    nodes = []
    for node in ordered[0].nodes():
        rankings = [dict(snapshot.ranked(node)) for snapshot in ordered]
        names = ordered[0].candidates[node.stack]
        weights = {name: [ranking[name] for ranking in rankings] for name in names}
        chosen = [getattr(g, node.stack)[node.layer][node.place] for g in genotypes]
        nodes.append(NodeHistory(node.stack, node.layer, node.place, weights, chosen))
    return AlphaHistory(sorted(by_updates), nodes, ordered[0].family)


def check_one_space(snapshots: Sequence[Snapshot]) -> None:
    """Raise an :class:`InputError` if two snapshots have different search spaces."""
    spaces = [(s.family, s.pooling, s.norm, s.candidates, list(s.nodes())) for s in snapshots]
    for snapshot, space in zip(snapshots, spaces, strict=True):
        if space != spaces[0]:
            raise InputError(
                f"{snapshot.path}: has another search space than {snapshots[0].path}: expected "
                "checkpoints of one search"
            )


def find_checkpoints(folder: Path) -> list[Path]:
    """Find the checkpoints in the save folder of a training, sorted by name; raise an
    :class:`InputError` if there are none."""
    if not folder.is_dir():
        raise InputError(f"{folder}: is not a folder")
    paths = sorted(folder.glob("checkpoint*.pt"))
    if not paths:
        raise InputError(f"{folder}: holds no checkpoint: expected checkpoint*.pt files")
    return paths
