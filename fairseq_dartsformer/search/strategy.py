"""What a search task asks of its strategy."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, ClassVar

import numpy as np
from fairseq.criterions import FairseqCriterion
from fairseq.data import FairseqDataset
from fairseq.data.iterators import EpochBatchIterator
from fairseq.optim import FairseqOptimizer
from fairseq.tasks import FairseqTask
from torch import nn

from ..errors import InputError
from ..search_space.levels import ALPHA, WEIGHTS, gradients_for, level_of
from .options import SearchOptions

# What fairseq's `train_step` and `valid_step` return: loss, sample size, logging output.
StepResult = tuple[Any, Any, dict[str, Any]]
BILEVEL = "bilevel_adam"


class SearchStrategy:
    """Trains the weights as fairseq trains any model; subclasses override only what differs.

    Attributes:
        name: its name in ``--search-strategy``.
        levels: the levels that its updates move. Other parameters take no gradients; a genotype is
            derived from alpha if alpha is among them.
        optimizer: the ``--optimizer`` to recommend. With ``bilevel_adam`` every update belongs to a
            level, which :meth:`train_step` sets by :meth:`updating`, and no other optimizer will
            do; with another one, ``bilevel_adam`` is refused.
        draws: whether its updates differ in what they compute, so that a plan must try several.
        options: its own options: fields of the task's dataclass that are ``None`` where the user
            says nothing. Strategies that do not list them refuse them.
        cfg: the task's options.

    Args:
        cfg: the same.

    Raises:
        InputError: options that the strategy cannot work with.
    """

    name: ClassVar[str]
    levels: ClassVar[tuple[str, ...]] = (WEIGHTS,)
    optimizer: ClassVar[str] = "adam"
    draws: ClassVar[bool] = False
    options: ClassVar[tuple[str, ...]] = ()

    def __init__(self, cfg: SearchOptions):
        self.cfg = cfg
        self.check()

    def check(self) -> None:
        """Refuse options that the strategy cannot work with, alone or together.

        Raises:
            InputError: there are such options.
        """

    def check_optimizer(self) -> None:
        """Refuse an optimizer that cannot do the strategy's updates.

        Raises:
            InputError: it cannot.
        """
        given = self.cfg.optimizer_name
        if given is None:
            return
        if (self.optimizer == BILEVEL) != (given == BILEVEL):
            raise InputError(
                f"--optimizer is {given}, --search-strategy {self.name} needs "
                + (BILEVEL if self.optimizer == BILEVEL else f"another, such as {self.optimizer}")
            )
        for half in ("fp16", "bf16"):
            if given == BILEVEL and self.cfg[f"memory_efficient_{half}"]:
                raise InputError(
                    f"--memory-efficient-{half} keeps no float32 copies, which {BILEVEL} needs: "
                    f"use --{half}"
                )

    def prepare(self, model: nn.Module) -> None:
        """Prepare a new supernet: parameters that no update moves take no gradients.

        Raises:
            InputError: the optimizer does not suit it.
        """
        self.check_optimizer()
        for parameter in model.parameters():
            if level_of(parameter) not in self.levels:
                parameter.requires_grad_(False)

    def training_data(
        self, train: FairseqDataset, load_split: Callable[[str], FairseqDataset]
    ) -> FairseqDataset:
        """The data to train on.

        Args:
            train: the training split of an epoch, or a shard of it.
            load_split: loads another split of the same epoch by its name.

        Raises:
            InputError: there are too few sentences.
        """
        return train

    def batches(
        self,
        task: FairseqTask,
        dataset: FairseqDataset,
        make: Callable[..., EpochBatchIterator],
        epoch: int = 1,
        max_positions: Any = None,
        **arguments: Any,
    ) -> EpochBatchIterator:
        """The batches of :meth:`training_data`.

        Args:
            task: the task that the data belong to.
            dataset: the data.
            make: fairseq's ``get_batch_iterator``.
            epoch, max_positions, arguments: as fairseq passes them to ``make``.

        Raises:
            InputError: no sentence is left.
        """
        indices = np.arange(len(dataset))
        if max_positions is not None:
            indices, _ = dataset.filter_indices_by_size(indices, max_positions)
        check_sentences(indices, "train on", max_positions)
        # A resumed search has the batches of its first epoch. Shards have batches of their own.
        first = epoch if task.has_sharded_data("train") else 1
        return make(dataset, epoch=first, max_positions=max_positions, **arguments)

    def train_step(
        self,
        train_step: Callable[..., StepResult],
        sample: Mapping[str, Any],
        model: nn.Module,
        criterion: FairseqCriterion,
        optimizer: FairseqOptimizer,
        update_num: int,
        ignore_grad: bool,
    ) -> StepResult:
        """Forward and backward pass of one of the update's batches.

        Args:
            train_step: fairseq's own, called with the following arguments.
            sample: the batch.
            model: perhaps inside a distributed wrapper.
            criterion: the loss.
            optimizer: perhaps inside one of half precision.
            update_num: number of updates so far; the same for all batches and workers of an update.
            ignore_grad: whether this is a dummy batch, given to a worker without data.
        """
        return train_step(sample, model, criterion, optimizer, update_num, ignore_grad)

    @contextmanager
    def updating(self, level: str, model: nn.Module, optimizer: FairseqOptimizer) -> Iterator[None]:
        """Have this update move one level alone, for a forward and backward pass.

        All batches and workers of an update must name the same level, for a dummy batch too.

        Args:
            level: one of :attr:`levels`.
            model, optimizer: as for :meth:`train_step`; the optimizer is ``bilevel_adam``.

        Raises:
            ValueError: the strategy has no such level.
        """
        if level not in self.levels:
            raise ValueError(
                f"{type(self).__name__} updates {level!r}, but its `levels` are {self.levels}"
            )
        optimizer.optimizer.level = level  # torch's optimizer, whatever fairseq has wrapped it in
        with gradients_for(model, level):
            yield

    def before_optimizer_step(
        self, model: nn.Module, optimizer: FairseqOptimizer, update_num: int
    ) -> None:
        """Called on every worker when gradients are summed, scaled and clipped.

        Args:
            model, optimizer, update_num: as for :meth:`train_step`.
        """

    def after_update(self, model: nn.Module, optimizer: FairseqOptimizer, update_num: int) -> None:
        """Called on every worker after the optimizer's step.

        Args:
            model, optimizer: as for :meth:`train_step`.
            update_num: number of updates, this one included.

        Raises:
            WorkerError: the search cannot go on.
        """

    def valid_step(
        self,
        valid_step: Callable[..., StepResult],
        sample: Mapping[str, Any],
        model: nn.Module,
        criterion: FairseqCriterion,
    ) -> StepResult:
        """Forward pass of a validation batch; arguments as :meth:`train_step`."""
        return valid_step(sample, model, criterion)

    def reduce_metrics(self, logging_outputs: Iterable[Mapping[str, Any]]) -> None:
        """Log the strategy's own values from what the batches of an update have logged."""

    def state_dict(self) -> dict[str, Any]:
        """State of a search beyond the number of updates: tensors and plain types.

        The first worker's is saved, and all workers go on with it. Change it in
        :meth:`after_update`, so that it always belongs to a finished update.
        """
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on with what :meth:`state_dict` returned; not called where that was empty."""

    @classmethod
    def learns_alpha(cls) -> bool:
        """Whether a genotype can be derived from alpha."""
        return ALPHA in cls.levels


def check_sentences(indices: np.ndarray, purpose: str, max_positions: Any) -> None:
    """Raise an :class:`InputError` if there is no sentence."""
    if len(indices) == 0:
        raise InputError(
            f"no sentence is left to {purpose}: the split is empty, or every sentence is longer "
            f"than --max-source-positions, --max-target-positions or --max-tokens allow "
            f"{max_positions}"
        )
