"""What the task asks a search strategy."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from fairseq.data import FairseqDataset
from fairseq.data.iterators import EpochBatchIterator
from fairseq.optim import FairseqOptimizer
from torch import nn

from ..errors import InputError
from ..levels import ALPHA, WEIGHTS, gradients_for, level_of

if TYPE_CHECKING:
    from ..tasks.translation_search import TranslationSearchConfig, TranslationSearchTask

# What fairseq's `train_step` and `valid_step` return: loss, sample size, logging output.
StepResult = tuple[Any, Any, dict[str, Any]]
BILEVEL = "bilevel_adam"


class SearchStrategy:
    """Trains the weights, as fairseq trains any model; what a strategy changes it overrides.

    Attributes:
        name: its name in ``--search-strategy``.
        levels: the levels that its updates move, in any order: what else there is takes no
            gradients, and a genotype is derived from alpha if it is among them.
        optimizer: the ``--optimizer`` to recommend. With ``bilevel_adam`` each update is one of a
            level, which :meth:`train_step` names by :meth:`updating`, and no other will do; with
            another that one is refused.
        draws: whether its updates differ in what they compute, so that a plan must try several.
        options: its own options, which strategies that do not name them refuse: fields of the
            task's dataclass that are ``None`` where the user says nothing.
        cfg: the task's options.

    Args:
        cfg: the same.

    Raises:
        InputError: options that the strategy cannot go by.
    """

    name: ClassVar[str]
    levels: ClassVar[tuple[str, ...]] = (WEIGHTS,)
    optimizer: ClassVar[str] = "adam"
    draws: ClassVar[bool] = False
    options: ClassVar[tuple[str, ...]] = ()

    def __init__(self, cfg: TranslationSearchConfig):
        self.cfg = cfg
        self.check()

    def check(self) -> None:
        """Refuse options that the strategy cannot go by, alone or together; here, none.

        Raises:
            InputError: there are such.
        """

    def check_optimizer(self) -> None:
        """Refuse an optimizer that cannot do the strategy's updates.

        Raises:
            InputError: it cannot.
        """
        given = self.cfg.optimizer_name
        if given is None:
            return
        if self.optimizer == BILEVEL:
            self._check_bilevel(given)
        elif given == BILEVEL:
            raise InputError(
                f"--optimizer is {BILEVEL}, which updates weights and alpha in turn, as "
                f"--search-strategy {self.name} does not: take another, such as {self.optimizer}"
            )

    def _check_bilevel(self, given: str) -> None:
        """Only ``bilevel_adam`` knows the levels, and it needs float32 copies."""
        if given != BILEVEL:
            raise InputError(
                f"--optimizer is {given}, --search-strategy {self.name} needs {BILEVEL}"
            )
        for half in ("fp16", "bf16"):
            if self.cfg[f"memory_efficient_{half}"]:
                raise InputError(
                    f"--memory-efficient-{half} keeps no float32 copies, which {BILEVEL} needs: "
                    f"use --{half}"
                )

    def prepare(self, model: nn.Module) -> None:
        """Make a new supernet ready: what no update is for takes no gradient.

        Raises:
            InputError: the optimizer is not one for it.
        """
        self.check_optimizer()
        for parameter in model.parameters():
            if level_of(parameter) not in self.levels:
                parameter.requires_grad_(False)

    def training_data(
        self, task: TranslationSearchTask, train: FairseqDataset, epoch: int
    ) -> FairseqDataset:
        """The data to train on, given the training split of an epoch, or a shard of it.

        Raises:
            InputError: there are too few.
        """
        return train

    def batches(
        self,
        task: TranslationSearchTask,
        dataset: FairseqDataset,
        make: Callable[..., EpochBatchIterator],
        epoch: int = 1,
        max_positions: Any = None,
        **arguments: Any,
    ) -> EpochBatchIterator:
        """The batches of :meth:`training_data`.

        Args:
            task: whose data they are.
            dataset: what is to be divided into batches.
            make: fairseq's ``get_batch_iterator``.
            epoch, max_positions, arguments: what fairseq hands to that.

        Raises:
            InputError: there is nothing to make them of.
        """
        if min(self.cfg.update_freq) < 1:
            raise InputError(f"--update-freq is {min(self.cfg.update_freq)}, it must be at least 1")
        # fairseq cannot do without any.
        indices = np.arange(len(dataset))
        if max_positions is not None:
            indices, _ = dataset.filter_indices_by_size(indices, max_positions)
        if len(indices) == 0:
            raise InputError(
                "no sentence is left to train on: there is none, or all are longer than "
                "--max-source-positions, --max-target-positions or --max-tokens allow "
                f"{max_positions}"
            )
        # The first epoch's, whatever the epoch is, so that a resumed search has the same; shards
        # have their own, which resuming loads again.
        first = epoch if task.has_sharded_data("train") else 1
        return make(dataset, epoch=first, max_positions=max_positions, **arguments)

    def train_step(
        self,
        step: Callable[[], StepResult],
        sample: Mapping[str, Any],
        model: nn.Module,
        optimizer: FairseqOptimizer,
        update_num: int,
        ignore_grad: bool,
    ) -> StepResult:
        """Forward and backward pass of one of the update's batches.

        Args:
            step: fairseq's: it runs both, and returns what this must return.
            sample: the batch.
            model: perhaps within a wrapper of workers.
            optimizer: perhaps within one of half precision.
            update_num: of updates so far; the same for all batches and workers of an update.
            ignore_grad: whether it is a dummy, which fairseq gives to a worker without data.
        """
        return step()

    @contextmanager
    def updating(self, level: str, model: nn.Module, optimizer: FairseqOptimizer) -> Iterator[None]:
        """Have this update move one level alone, for a forward and backward pass.

        All batches and workers of an update must name the same level, also for a dummy batch.

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
        optimizer.optimizer.level = level  # torch's own, whatever fairseq has wrapped it in
        with gradients_for(model, level):
            yield

    def after_update(self, model: nn.Module, optimizer: FairseqOptimizer, update_num: int) -> None:
        """Called on every worker when the optimizer has made its step.

        Args:
            model, optimizer: as for :meth:`train_step`.
            update_num: of updates, this one included.

        Raises:
            WorkerError: the search cannot go on.
        """

    def valid_step(
        self, step: Callable[[], StepResult], sample: Mapping[str, Any], model: nn.Module
    ) -> StepResult:
        """Forward pass of a batch of validation; arguments as :meth:`train_step`."""
        return step()

    def reduce_metrics(self, logging_outputs: Iterable[Mapping[str, Any]]) -> None:
        """Log more than fairseq does, from what the batches of an update have logged."""

    def state_dict(self) -> dict[str, Any]:
        """What a resumed search has to know besides ``update_num``: tensors and plain types.

        The first worker's is saved, and all go on with it. A search that stops at a number that is
        not finite saves it after :meth:`train_step` of the update that failed: change it in
        :meth:`after_update`.
        """
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on with what :meth:`state_dict` returned; not called where it was empty."""

    @classmethod
    def learns_alpha(cls) -> bool:
        """Whether a genotype can be derived from alpha."""
        return ALPHA in cls.levels
