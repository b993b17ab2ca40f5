"""A training's save folder, read: its checkpoints, its genotypes, its curves."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from ..errors import InputError
from ..fairseq_patches import load_checkpoint
from ..search.registry import STRATEGIES
from ..search.snapshot import Snapshot, derive, find_checkpoints, history_of, snapshot_of
from ..search_space.alpha_history import AlphaHistory
from ..search_space.genotype import Genotype
from ..search_space.levels import LEVELS
from .checkpoint_summary import CheckpointSummary, count_parameters, number
from .log import Curve, Log, read_events, read_log


@dataclass
class Run:
    """A training, of a search or of a network that one found.

    Attributes:
        folder: where it saves.
        cfg: fairseq's configuration, of the last checkpoint.
        checkpoints: what its checkpoints say, by updates.
        parameters: how many the model has.
        log: what it has logged.
        unreadable: what was wrong with checkpoints that could not be read.
    """

    folder: Path
    cfg: Mapping[str, Any]
    checkpoints: list[CheckpointSummary]
    parameters: int
    log: Log
    unreadable: list[str] = field(default_factory=list)

    @property
    def last(self) -> CheckpointSummary:
        return self.checkpoints[-1]

    @property
    def updates(self) -> int:
        """So far; the log may know of more than the last checkpoint."""
        return max(self.last.updates, self.log.updates)

    @property
    def max_update(self) -> int:
        """0 if the training was given none."""
        return int(self.number("optimization", "max_update"))

    @property
    def stop_hours(self) -> float:
        """0 if the training was given none."""
        return self.number("optimization", "stop_time_hours")

    @property
    def workers(self) -> int:
        return int(self.number("distributed_training", "distributed_world_size")) or 1

    @property
    def on_gpu(self) -> bool | None:
        """``None`` if nothing tells; on a GPU fairseq notes at every update what memory is free."""
        if self.option("common", "cpu"):
            return False
        return "gb_free" in self.last.meters if self.last.meters else None

    @property
    def hours(self) -> float | None:
        """Of all workers together, until the last checkpoint."""
        seconds = self.last.seconds
        return None if seconds is None else self.workers * seconds / 3600

    @property
    def seconds_an_update(self) -> float | None:
        """Between the first and the last checkpoint, or since the start where there is one."""
        timed = [(s.updates, s.seconds) for s in self.checkpoints if s.seconds is not None]
        if not timed:
            return None
        (first, start), (last, end) = (timed[0] if len(timed) > 1 else (0, 0.0)), timed[-1]
        return (end - start) / (last - first) if last > first and end > start else None

    @property
    def finished(self) -> bool:
        left = self.seconds_left
        return self.log.done or (left is not None and left <= 0)

    @property
    def seconds_left(self) -> float | None:
        """Until the last update or hour that the training was given; ``None`` if it has no end."""
        left = []
        more = self.max_update - self.updates
        if self.max_update and (more <= 0 or self.seconds_an_update is not None):
            left.append(more * (self.seconds_an_update or 0))
        if self.stop_hours and self.last.seconds is not None:
            left.append(self.stop_hours * 3600 - self.last.seconds)
        return min(left, default=None)

    def option(self, group: str, name: str) -> Any:
        """A setting of fairseq's, ``None`` if there is none."""
        part = self.cfg.get(group)
        part = vars(part) if isinstance(part, Namespace) else part
        return part.get(name) if isinstance(part, Mapping) else None

    def number(self, group: str, name: str) -> float:
        """A setting that is a number, 0 if it is none."""
        return number(self.option(group, name)) or 0.0

    def interval_means(self, name: str) -> Curve:
        """A statistic's mean since the checkpoint before, by the meters that checkpoints carry."""
        curve, before = [], (0.0, 0.0)
        for snapshot in self.checkpoints:
            total, weight = snapshot.meters.get(name, (0.0, 0.0))
            if weight < before[1]:  # a new epoch has begun
                before = (0.0, 0.0)
            if weight > before[1]:
                curve.append((snapshot.updates, (total - before[0]) / (weight - before[1])))
            before = (total, weight)
        return curve

    def losses(self) -> dict[str, Curve]:
        """Of both levels and of validation, in bits, from the log or else from the checkpoints."""
        losses = {}
        for level in LEVELS:
            name = f"loss_{level}"
            losses[level] = self.log.curve("train_inner", name) or self.interval_means(name)
        if not any(losses.values()):  # no search by levels: all training is of the weights
            losses["weights"] = self.log.curve("train_inner", "loss") or self.interval_means("loss")
        subset = str(self.option("dataset", "valid_subset") or "valid").split(",")[0]
        validation = dict(self.log.curve(subset, "loss"))
        if self.option("checkpoint", "best_checkpoint_metric") in (None, "loss"):
            validation |= {s.updates: s.validation for s in self.checkpoints if s.validation}
        losses["validation"] = sorted(validation.items())
        return losses


@dataclass
class Search(Run):
    """A search.

    Attributes:
        result: of its last checkpoint.
        history: of alpha, and the genotype at each checkpoint; ``None`` if it does not learn alpha.
    """

    result: Snapshot = field(kw_only=True)
    history: AlphaHistory | None = field(kw_only=True)
    genotype: Genotype | None = field(kw_only=True)


def read_search(folder: Path, log: Path | None = None) -> Search:
    """Read the save folder of a search, running or finished.

    Args:
        folder: with its checkpoints, and perhaps TensorBoard's events.
        log: what ``fairseq-train`` has printed.

    Raises:
        InputError: it is not the folder of a search, or the log says nothing.
    """
    results: list[Snapshot] = []

    def keep(state: Mapping[str, Any], path: Path) -> None:
        results.append(snapshot_of(state, str(path)))

    logged = read_log(log) if log else read_events(folder)
    run = _read(folder, find_checkpoints(folder), logged, keep)
    last = max(results, key=lambda result: result.updates)
    strategy = STRATEGIES.get(last.strategy)
    learns = strategy is None or strategy.learns_alpha()
    return Search(
        **vars(run),
        result=last,
        history=history_of(results) if learns else None,
        genotype=derive(last) if learns else None,
    )


def read_retraining(folder: Path) -> Run:
    """Read the save folder of a training by its last checkpoint, or by all if it has none so named.

    Raises:
        InputError: there is no checkpoint that can be read.
    """
    last = folder / "checkpoint_last.pt"
    paths = [last] if last.is_file() else find_checkpoints(folder)
    return _read(folder, paths, read_events(folder), lambda state, path: None)


def _read(
    folder: Path,
    paths: list[Path],
    log: Log,
    keep: Callable[[Mapping[str, Any], Path], object],
) -> Run:
    """Read checkpoints; one that is damaged, as one being written may be, is left out if there are
    others.

    Args:
        folder: where they are.
        paths: of the checkpoints.
        log: of the training.
        keep: called with each checkpoint's state and path.

    Raises:
        InputError: none can be read.
    """
    snapshots: dict[int, CheckpointSummary] = {}
    errors: list[InputError] = []
    cfg: Mapping[str, Any] = {}
    parameters = latest = 0
    for path in paths:
        try:
            state = load_checkpoint(str(path))
            snapshot = CheckpointSummary.of(state, path)
            keep(state, path)
        except InputError as error:
            errors.append(error)
            continue
        # Of equal ones the last by name, which is the one that a resumed training goes on from.
        snapshots[snapshot.updates] = snapshot
        if snapshot.updates >= latest:
            latest, cfg = snapshot.updates, _plain(state["cfg"])
            parameters = count_parameters(state["model"])
    if not snapshots:
        raise errors[0]
    ordered = [snapshots[updates] for updates in sorted(snapshots)]
    return Run(folder, cfg, ordered, parameters, log, list(map(str, errors)))


def _plain(cfg: Any) -> Mapping[str, Any]:
    """Of plain types, whatever fairseq made of it."""
    return OmegaConf.to_container(cfg) if OmegaConf.is_config(cfg) else cfg
