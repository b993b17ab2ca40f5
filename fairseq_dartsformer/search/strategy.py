"""The base class of search strategies: what a search task asks of its strategy."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, ClassVar

import numpy as np
from fairseq.criterions import FairseqCriterion
from fairseq.data import FairseqDataset
from fairseq.data.iterators import EpochBatchIterator
from fairseq.optim import FairseqOptimizer
from fairseq.tasks import FairseqTask
from torch import nn

from ..data import check_sentences
from ..errors import InputError
from ..reversible.coupling import Mixtures
from ..search_space.levels import ALPHA, WEIGHTS, gradients_for, level_of
from ..search_space.relaxation import Relaxation, softmax
from ..search_space.sampling import parameters_not_chosen, searched_stacks
from .options import SearchOptions

# What fairseq's `train_step` and `valid_step` return: loss, sample size, logging output.
StepResult = tuple[Any, Any, dict[str, Any]]
BILEVEL = "bilevel_adam"


class SearchStrategy:
    """Trains the weights as fairseq trains any model; subclasses override only what differs.

    Attributes:
        name: value of ``--search-strategy``.
        levels: the levels that updates move. Other parameters take no gradients. If alpha is among
            them, a genotype can be derived from it.
        optimizer: a suitable ``--optimizer``. With ``bilevel_adam``, which then is the only one
            allowed, :meth:`train_step` sets the levels of every update by :meth:`updating`;
            otherwise ``bilevel_adam`` is refused.
        draws: whether updates differ in what they compute, so that the memory planner must try
            several.
        generates: whether updates generate translations, which the memory planner cannot follow.
        options: the strategy's own options: fields of the task's dataclass whose default is
            ``None``. A strategy that does not list an option refuses it. All that learn alpha have
            the monitor's, :data:`~.options.MONITOR_OPTIONS`.
        cfg: the task's options.

    Args:
        cfg: the task's options.

    Raises:
        InputError: the strategy cannot work with these options.
    """

    name: ClassVar[str]
    levels: ClassVar[tuple[str, ...]] = (WEIGHTS,)
    optimizer: ClassVar[str] = "adam"
    draws: ClassVar[bool] = False
    generates: bool = False
    options: ClassVar[tuple[str, ...]] = ()

    def __init__(self, cfg: SearchOptions):
        self.cfg = cfg
        self.check()

    def check(self) -> None:
        """Raise an :class:`InputError` if the strategy cannot work with its options."""

    @classmethod
    def relaxation(cls, cfg: Mapping[str, Any]) -> Relaxation:
        """Return how alpha becomes the mixing weights that are validated, shown and derived from,
        given the task's options."""
        return softmax

    @classmethod
    def options_of(cls, cfg: Mapping[str, Any]) -> tuple[str, ...]:
        """Return :attr:`options`, which may depend on the task's options."""
        return cls.options

    def prepare(self, model: nn.Module) -> None:
        """Set the model's relaxation, and let only parameters that updates move take gradients;
        raise an :class:`InputError` if the optimizer cannot do these updates."""
        for coder in searched_stacks(model).values():
            coder.relaxation = self.relaxation(self.cfg)
        given, bilevel = self.cfg.optimizer_name, self.optimizer == BILEVEL
        if given is not None and bilevel != (given == BILEVEL):
            needs = BILEVEL if bilevel else f"another, such as {self.optimizer}"
            raise InputError(f"--optimizer is {given}, --search-strategy {self.name} needs {needs}")
        for half in ("fp16", "bf16"):
            if given == BILEVEL and self.cfg[f"memory_efficient_{half}"]:
                raise InputError(
                    f"--memory-efficient-{half} keeps no float32 copies, which {BILEVEL} needs: "
                    f"use --{half}"
                )
        for parameter in model.parameters():
            if level_of(parameter) not in self.levels:
                parameter.requires_grad_(False)

    def statistics(self, model: nn.Module) -> dict[str, float]:
        """Return numbers to log in every update, by name."""
        return {}

    def move_always(self) -> None:
        """Let every update move whatever updates ever move, for the memory planner."""

    def training_data(
        self, train: FairseqDataset, load_split: Callable[[str], FairseqDataset]
    ) -> FairseqDataset:
        """Return the data to train on, given the training split, or its shard of this epoch; raise
        an :class:`InputError` if there are too few sentences.

        ``load_split`` loads another split of the same epoch by its name.
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
        """Return the batches of :meth:`training_data`.

        ``make`` is fairseq's ``get_batch_iterator``, which takes the remaining arguments.

        Raises:
            InputError: no sentence is left.
        """
        indices = np.arange(len(dataset))
        if max_positions is not None:
            indices, _ = dataset.filter_indices_by_size(indices, max_positions)
        check_sentences(indices, "train on", max_positions)
        # fairseq forms batches by the epoch in which the iterator is made. From epoch 1 on, a
        # resumed search has the batches it began with; each shard has its own.
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
        """Do the forward and backward pass of one batch.

        Args:
            train_step: fairseq's own, which takes the arguments that follow.
            sample: the batch.
            model: the supernet, perhaps in a distributed wrapper.
            criterion: the loss.
            optimizer: the optimizer, perhaps in a half-precision wrapper.
            update_num: number of finished updates; equal for all batches and workers of an update.
            ignore_grad: whether this is a dummy batch for a worker without data.
        """
        return train_step(sample, model, criterion, optimizer, update_num, ignore_grad)

    @contextmanager
    def updating(
        self, levels: str | Collection[str], model: nn.Module, optimizer: FairseqOptimizer
    ) -> Iterator[None]:
        """Let ``bilevel_adam`` move only these levels; wraps an update's forward and backward pass.

        All batches and workers of an update must name the same levels, even for a dummy batch.

        Raises:
            ValueError: a level is not one of :attr:`levels`.
        """
        levels = (levels,) if isinstance(levels, str) else tuple(levels)
        for level in levels:
            if level not in self.levels:
                raise ValueError(
                    f"{type(self).__name__} updates {level!r}, but its `levels` are {self.levels}"
                )
        optimizer.optimizer.levels = levels  # torch's optimizer, in fairseq's wrappers
        with gradients_for(model, levels):
            yield

    def before_optimizer_step(
        self, model: nn.Module, optimizer: FairseqOptimizer, update_num: int
    ) -> None:
        """Called on every worker after gradients are summed, scaled and clipped; arguments as in
        :meth:`train_step`."""

    def after_update(self, model: nn.Module, optimizer: FairseqOptimizer, update_num: int) -> None:
        """Called on every worker after the optimizer's step; arguments as in :meth:`train_step`,
        but ``update_num`` includes this update."""

    def valid_step(
        self,
        valid_step: Callable[..., StepResult],
        sample: Mapping[str, Any],
        model: nn.Module,
        criterion: FairseqCriterion,
    ) -> StepResult:
        """Do the forward pass of a validation batch; arguments as in :meth:`train_step`."""
        return valid_step(sample, model, criterion)

    def reduce_metrics(self, logging_outputs: Iterable[Mapping[str, Any]]) -> None:
        """Log the strategy's own values, given the logging outputs of an update's batches."""

    def state_dict(self) -> dict[str, Any]:
        """Return the strategy's state as tensors and plain types.

        The first worker's state is saved, and all workers resume with it. Change it only in
        :meth:`after_update`, so that it always belongs to a finished update.
        """
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what :meth:`state_dict` returned; not called if that was empty."""

    @classmethod
    def learns_alpha(cls) -> bool:
        """Whether a genotype can be derived from alpha."""
        return ALPHA in cls.levels


def remove_gradients_not_chosen(
    model: nn.Module, optimizer: FairseqOptimizer, mixtures: Mapping[str, Mixtures]
) -> None:
    """Remove the gradients of candidates that did not run in an update.

    ``legacy_ddp`` and half precision replace missing gradients by zeros, and Adam's momentum moves
    a parameter even at a gradient of zero.
    """
    copies = master_copies(optimizer)
    for parameter in parameters_not_chosen(model, mixtures):
        copies.get(parameter, parameter).grad = None


def master_copies(optimizer: FairseqOptimizer) -> dict[nn.Parameter, nn.Parameter]:
    """Return the float32 copies that half precision steps, by the model's parameters."""
    if not hasattr(optimizer, "fp32_params"):
        return {}
    return dict(zip(optimizer.fp16_params, optimizer.fp32_params, strict=True))
