"""A training's save folder: its checkpoints, genotypes and curves."""

from argparse import Namespace
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from ..errors import InputError
from ..fairseq_patches import load_checkpoint
from ..models.checkpoint_checks import options_of
from ..search.history import find_checkpoints, history_of
from ..search.snapshot import Snapshot, derive, snapshot_of
from ..search_space.alpha_history import AlphaHistory
from ..search_space.genotype import Genotype
from ..search_space.levels import LEVELS
from .checkpoint_summary import CheckpointSummary, count_parameters, number
from .log import Curve, Log, read_log


@dataclass
class Run:
    """A training, of a supernet or of any other network.

    Attributes:
        folder: save folder.
        log: what the training logged.
        cfg: fairseq's configuration, from the last checkpoint.
        parameters: number of the model's parameters.
        checkpoints: ordered by updates.
        unreadable: errors of the checkpoints that cannot be read.
    """

    folder: Path
    log: Log
    cfg: Mapping[str, Any] = field(default_factory=dict)
    parameters: int = 0
    checkpoints: list[CheckpointSummary] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)

    def read(self, paths: list[Path]) -> None:
        """Read checkpoints except damaged ones and one that is being written; raise an
        :class:`InputError` if none can be read."""
        summaries: dict[int, CheckpointSummary] = {}
        error = None
        for path in paths:
            try:
                state = load_checkpoint(str(path))
                summary = CheckpointSummary.of(state, path)
                self.keep(state, path)
            except InputError as found:
                error = error or found
                self.unreadable.append(str(found))
                continue
            # After equal updates the last by name counts: a resumed training starts from it.
            summaries[summary.updates] = summary
            if summary.updates == max(summaries):
                cfg = state["cfg"]
                self.cfg = OmegaConf.to_container(cfg) if OmegaConf.is_config(cfg) else cfg
                self.parameters = count_parameters(state["model"])
        if error and not summaries:
            raise error
        self.checkpoints = [summaries[updates] for updates in sorted(summaries)]

    def keep(self, state: Mapping[str, Any], path: Path) -> None:
        """Take what a subclass needs from a checkpoint."""

    @property
    def last(self) -> CheckpointSummary:
        return self.checkpoints[-1]

    @property
    def updates(self) -> int:
        """Updates so far; the log may be ahead of the last checkpoint."""
        return max(self.last.updates, self.log.updates)

    @property
    def seconds_an_update(self) -> float | None:
        """Mean between the first and the last checkpoint, or since the start if there is one."""
        timed = [(s.updates, s.seconds) for s in self.checkpoints if s.seconds is not None]
        if not timed:
            return None
        (first, start), (last, end) = (timed[0] if len(timed) > 1 else (0, 0.0)), timed[-1]
        return (end - start) / (last - first) if last > first and end > start else None

    @property
    def limits(self) -> tuple[int, float]:
        """``--max-update`` and ``--stop-time-hours``; 0 for one that is not given."""
        names = ("max_update", "stop_time_hours")
        updates, hours = (number(self.option("optimization", name)) or 0 for name in names)
        return int(updates), hours

    @property
    def seconds_left(self) -> float | None:
        """Seconds until the last update or hour of the training; ``None`` if it has no limit."""
        left, (updates, hours) = [], self.limits
        more = updates - self.updates
        if updates and (more <= 0 or self.seconds_an_update is not None):
            left.append(more * (self.seconds_an_update or 0))
        if hours and self.last.seconds is not None:
            left.append(hours * 3600 - self.last.seconds)
        return min(left, default=None)

    @property
    def progress(self) -> float | None:
        """Share of the training that is done; ``None`` if it has no limit."""
        updates, hours = self.limits
        left = self.seconds_left
        if self.log.done or (left is not None and left <= 0):
            return 1.0
        shares = [self.updates / updates] if updates else []
        if hours and self.last.seconds is not None:
            shares.append(self.last.seconds / 3600 / hours)
        return max(shares, default=None)

    def option(self, group: str, name: str) -> Any:
        """An option of fairseq, ``None`` if it is missing."""
        part = self.cfg.get(group)
        return options_of(part).get(name) if isinstance(part, Mapping | Namespace) else None

    @property
    def subset(self) -> str:
        """The first split that the training validates on."""
        return str(self.option("dataset", "valid_subset") or "valid").split(",")[0]

    @property
    def validates_by_loss(self) -> bool:
        return self.option("checkpoint", "best_checkpoint_metric") in (None, "loss")

    def perplexity(self, loss: float | None, updates: int | None = None) -> float | None:
        """Perplexity of a language model at validation, as logged or from the loss.

        Args:
            loss: in bits.
            updates: of the training at that time, if known.

        Returns:
            ``None`` for other models, and for an unlogged loss that is not the cross entropy alone.
        """
        if not str(self.option("task", "_name")).startswith("language_modeling"):
            return None
        logged = dict(self.log.curve(self.subset, "ppl"))
        smoothed = number(self.option("criterion", "label_smoothing"))
        if updates in logged or loss is None or smoothed or not self.validates_by_loss:
            return logged.get(updates)
        return 2.0 ** min(loss, 1000.0)

    def interval_means(self, name: str) -> Curve:
        """Means of a statistic from one checkpoint to the next, by the checkpoints' meters."""
        curve, before = [], (0.0, 0.0)
        for summary in self.checkpoints:
            total, weight = summary.meters.get(name, (0.0, 0.0))
            if weight < before[1]:  # a new epoch has begun
                before = (0.0, 0.0)
            if weight > before[1]:
                curve.append((summary.updates, (total - before[0]) / (weight - before[1])))
            before = (total, weight)
        return curve

    def losses(self) -> dict[str, Curve]:
        """Losses of both levels and of validation in bits, from the log or the checkpoints."""
        logged = {
            name: self.log.curve("train_inner", name) or self.interval_means(name)
            for name in ("loss", *(f"loss_{level}" for level in LEVELS))
        }
        losses = {level: logged[f"loss_{level}"] for level in LEVELS}
        if not any(losses.values()):  # without levels, all updates train the weights
            losses["weights"] = logged["loss"]
        validation = dict(self.log.curve(self.subset, "loss"))
        if self.validates_by_loss:
            validation |= {s.updates: s.validation for s in self.checkpoints if s.validation}
        return losses | {"validation": sorted(validation.items())}


@dataclass
class Search(Run):
    """The training of a supernet.

    Attributes:
        snapshots: alpha at each checkpoint.
    """

    snapshots: list[Snapshot] = field(default_factory=list)

    def keep(self, state: Mapping[str, Any], path: Path) -> None:
        self.snapshots.append(snapshot_of(state, str(path)))

    @cached_property
    def snapshot(self) -> Snapshot:
        """The last one."""
        return max(self.snapshots, key=lambda snapshot: snapshot.updates)

    @cached_property
    def history(self) -> AlphaHistory | None:
        """``None`` if the strategy does not learn alpha."""
        return history_of(self.snapshots) if self.snapshot.learns_alpha else None

    @cached_property
    def genotype(self) -> Genotype | None:
        """Derived from the last checkpoint; ``None`` if the strategy does not learn alpha."""
        return derive(self.snapshot) if self.snapshot.learns_alpha else None


def read_search(folder: Path, log: Path | None = None) -> Search:
    """Read the save folder of a search, running or finished.

    Args:
        folder: holds the checkpoints.
        log: what fairseq printed or logged; by default the folder's `hydra_train.log`, if it holds
            statistics.

    Raises:
        InputError: the folder is not that of a search, or the given log holds no statistics.
    """
    search = Search(folder, read_log(log) if log else Log())
    if not log:
        with suppress(InputError):
            search.log = read_log(folder / "hydra_train.log")
    search.read(find_checkpoints(folder))
    return search


def read_retraining(folder: Path) -> Run:
    """Read the save folder of a training by its `checkpoint_last.pt`, or else by all checkpoints;
    raise an :class:`InputError` if none can be read."""
    last, run = folder / "checkpoint_last.pt", Run(folder, Log())
    run.read([last] if last.is_file() else find_checkpoints(folder))
    return run
