"""The base class of search tasks: a supernet on a task of fairseq, trained by a search strategy."""

import logging
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from fairseq import utils
from fairseq.data import FairseqDataset
from fairseq.logging import metrics

from ..data import check_binarised
from ..errors import InputError
from ..search import SearchStrategy, build_strategy
from ..search.monitor import Monitor
from ..search.options import SearchOptions
from ..search.penalties import LATENCY_OPTIONS
from ..search.worker_agreement import compare_alpha
from ..search_space.alpha import mean_entropy
from ..search_space.families import FAMILIES
from ..search_space.levels import ALPHA, LEVELS
from ..search_space.sampling import searched_stacks

logger = logging.getLogger(__name__)


class SearchTask:
    """Mixin in front of a task of fairseq that makes a search of it.

    In every update, fairseq's trainer calls :meth:`train_step` for each batch, which calls
    fairseq's own ``train_step`` through the strategy, and then :meth:`optimizer_step`.

    Attributes:
        TASK: fairseq's task, on which derived models are trained.

    Args:
        cfg: options of the task and of the search.
        dictionaries: as the task takes them, with further arguments.

    Raises:
        InputError: the options contradict each other or are out of range.
    """

    TASK: ClassVar[str]
    cfg: SearchOptions

    def __init__(self, cfg: SearchOptions, *dictionaries: Any, **more: Any):
        super().__init__(cfg, *dictionaries, **more)
        self.cfg = cfg  # old tasks of fairseq do not keep it
        self.strategy: SearchStrategy = build_strategy(cfg)
        self.monitor = Monitor(cfg, self.strategy.learns_alpha())
        self._supernet: torch.nn.Module | None = None
        # With --fp16, keep a float32 copy of each parameter instead of a flat one of all: each
        # update steps only one level, or only the operations that were drawn.
        root = cfg._get_root()
        if "common" in root:
            root.common.fp16_no_flatten_grads = True
        # The training split as fairseq loads it, and as the strategy returns it.
        self._training_split: FairseqDataset | None = None
        self._training_data: FairseqDataset | None = None

    @classmethod
    def setup_task(cls, cfg: SearchOptions, from_checkpoint: bool = False, **kwargs):
        """As in fairseq; of a checkpoint that is not trained further, the files that penalties
        need may be gone."""
        if from_checkpoint:
            for name in ("arch_penalty", *LATENCY_OPTIONS):
                if name in cfg:
                    cfg[name] = None
        return super().setup_task(cfg, **kwargs)

    def build_model(self, cfg, from_checkpoint: bool = False):
        """Build a supernet; raise an :class:`InputError` if the model is another."""
        model = super().build_model(cfg, from_checkpoint)
        if not searched_stacks(model):
            supernets = [f.supernet for f in FAMILIES.values() if f.task == self.TASK]
            raise InputError(
                f"--task {self.TASK}_search needs a supernet (--arch {' or '.join(supernets)}); to "
                f"train a derived model use --task {self.TASK}"
            )
        self.strategy.prepare(model)
        self._supernet, self.monitor.model_cfg = model, cfg
        return model

    def languages(self) -> Sequence[str]:
        """Return source and target; nothing for a text."""
        return ()

    def divisible(self, dataset: FairseqDataset) -> FairseqDataset:
        """Return a training split in the form that a ``DataSplit`` divides."""
        return dataset

    def load_dataset(
        self, split: str, epoch: int = 1, combine: bool | None = None, **kwargs
    ) -> None:
        """Load a split; the strategy prepares the training split for training.

        Validation and generation use the training split in its own order: validation passes
        ``combine=False``, and generation passes ``task_cfg``.

        Raises:
            InputError: data that the strategy needs are missing, empty or damaged.
        """
        in_order = combine is False or "task_cfg" in kwargs
        if split != self.cfg.train_subset:  # only training splits have shards
            epoch = 1
        if not in_order:
            folders = utils.split_paths(self.cfg.data)
            folder = folders[(epoch - 1) % len(folders)]
            check_binarised(folder, split, self.languages(), bool(combine))
        super().load_dataset(split, epoch=epoch, combine=bool(combine), **kwargs)
        if not in_order:
            self.datasets[split] = self.divisible(self.datasets[split])
        if split == self.cfg.train_subset and not in_order:

            def load_split(name: str) -> FairseqDataset:
                try:
                    self.load_dataset(name, epoch=epoch)
                except FileNotFoundError as error:
                    raise InputError(
                        f"--arch-subset is {name!r}, but there is no such binarised split in "
                        f"{self.cfg.data}"
                    ) from error
                return self.datasets[name]

            self._training_split = self.datasets[split]
            self._training_data = self.strategy.training_data(self._training_split, load_split)
            self.datasets[split] = self._training_data

    def get_batch_iterator(self, dataset, **kwargs):
        """Return fairseq's iterator; for training, the strategy's."""
        make = super().get_batch_iterator
        if dataset is not self._training_data:
            return make(dataset, **kwargs)
        # Validation of the training split passes the same dataset and asks for a new iterator, but
        # only training passes grouped_shuffling.
        if kwargs.get("disable_iterator_cache") and "grouped_shuffling" not in kwargs:
            return make(self._training_split, **kwargs)
        return self.strategy.batches(self, dataset, make, **kwargs)

    def train_step(
        self, sample, model, criterion, optimizer, update_num, ignore_grad: bool = False, **kwargs
    ):
        """Let the strategy do the forward and backward pass of a batch."""
        return self.strategy.train_step(
            super().train_step, sample, model, criterion, optimizer, update_num, ignore_grad
        )

    def optimizer_step(self, optimizer, model, update_num) -> None:
        """Step the optimizer; the strategy acts before and after, the monitor after.

        Raises:
            WorkerError: the workers have different alphas.
            NotFiniteError: a parameter is not finite.
        """
        self.strategy.before_optimizer_step(model, optimizer, update_num)
        super().optimizer_step(optimizer, model, update_num)
        self.strategy.after_update(model, optimizer, update_num + 1)
        moved = getattr(optimizer.optimizer, "levels", LEVELS)  # a plugin's may not have levels
        if self.strategy.learns_alpha() and ALPHA in moved:
            compare_alpha(self._supernet, f"after update {update_num + 1}")
        self.monitor.after_update(self._supernet, update_num + 1)

    def valid_step(self, sample, model, criterion, **kwargs):
        """Let the strategy do the forward pass of a validation batch."""
        return self.strategy.valid_step(super().valid_step, sample, model, criterion)

    def reduce_metrics(self, logging_outputs, criterion) -> None:
        """Log fairseq's statistics, the strategy's, and in training alpha's mean entropy in nats.

        Raises:
            NotFiniteError: the loss of an update is not finite.
        """
        super().reduce_metrics(logging_outputs, criterion)
        self.strategy.reduce_metrics(logging_outputs)
        if criterion.training:
            self.monitor.check_loss(float(sum(log.get("loss", 0) for log in logging_outputs)))
            if self.strategy.learns_alpha():
                coders = searched_stacks(self._supernet).values()
                with torch.no_grad():
                    nats = mean_entropy(coder.mixing_weights() for coder in coders)
                metrics.log_scalar("alpha_entropy", nats, priority=16, round=4, weight=0)
            for name, value in self.strategy.statistics(self._supernet).items():
                metrics.log_scalar(name, value, priority=17, round=4, weight=0)

    def get_checkpoint_dict(self) -> dict[str, Any]:
        """Return the state of monitor and strategy, under the key that fairseq reads at resume; a
        parameter that is not finite raises a :class:`NotFiniteError`."""
        self.monitor.check_parameters(self._supernet)
        state = dict(self.monitor.state)
        if strategy_state := self.strategy.state_dict():
            state |= {"strategy": strategy_state, "strategy_name": self._strategy_name}
        return {type(self).__name__: state}

    def set_checkpoint_dict(self, state: dict[str, Any]) -> None:
        """Restore what :meth:`get_checkpoint_dict` returned; another strategy's state is left out,
        with a warning."""
        before = state.get("strategy_name", self._strategy_name)  # none in earlier versions
        if before != self._strategy_name:
            logger.warning(f"the search was by {before}, whose state {self._strategy_name} ignores")
        elif "strategy" in state:
            self.strategy.load_state_dict(state["strategy"])
        self.monitor.state = {k: v for k, v in state.items() if not k.startswith("strategy")}

    @property
    def _strategy_name(self) -> str:
        """The strategy, and the one that follows it."""
        following = getattr(self.strategy, "inner", None)
        return self.strategy.name + (f" and {following.name}" if following else "")
