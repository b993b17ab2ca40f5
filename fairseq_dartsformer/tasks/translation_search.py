"""`translation_search`: translation whose model is a supernet, trained by a search strategy."""

from dataclasses import dataclass, field
from typing import Any, List, Optional

from fairseq.data import FairseqDataset
from fairseq.tasks import register_task
from fairseq.tasks.translation import TranslationConfig, TranslationTask
from omegaconf import II

from ..errors import InputError
from ..strategies import SearchStrategy, build_strategy
from ..watching import SearchWatch


@dataclass
class TranslationSearchConfig(TranslationConfig):
    """Options besides those of fairseq's `translation`."""

    search_strategy: str = field(
        default="darts",
        metadata={
            "help": "how the supernet is trained: darts updates weights and alpha in turn; "
            "uniform_sampling trains the weights of one operation a search node, drawn anew for "
            "each update"
        },
    )
    arch_fraction: Optional[float] = field(
        default=None,
        metadata={
            "help": "darts: fraction of the training sentences that alpha is updated on, drawn by "
            "--seed; the weights have the rest (default: 2.0/4.5)"
        },
    )
    arch_subset: Optional[str] = field(
        default=None,
        metadata={
            "help": "darts: binarised split that alpha is updated on, in place of --arch-fraction; "
            "the weights then have all of the training data"
        },
    )
    warn_skip_share: Optional[float] = field(
        default=None,
        metadata={
            "help": "darts: warn when identity or zero is the best operation of more than this "
            "share of the search nodes (default: 0.5)"
        },
    )
    stop_skips: Optional[int] = field(
        default=None,
        metadata={
            "help": "darts: stop when identity or zero is the best operation of so many search "
            "nodes (default: never)"
        },
    )
    stop_entropy: Optional[float] = field(
        default=None,
        metadata={
            "help": "darts: stop when the mean entropy of the mixing weights, in nats, is down to "
            "this (default: never)"
        },
    )
    stop_unchanged: Optional[int] = field(
        default=None,
        metadata={
            "help": "darts: stop when the genotype has not changed for so many updates "
            "(default: never)"
        },
    )
    seed: int = II("common.seed")
    memory_efficient_fp16: bool = II("oc.select:common.memory_efficient_fp16,false")
    memory_efficient_bf16: bool = II("oc.select:common.memory_efficient_bf16,false")
    update_freq: List[int] = II("optimization.update_freq")
    # Commands that do not train have no optimizer.
    optimizer_name: Optional[str] = II("oc.select:optimizer._name,null")


@register_task("translation_search", dataclass=TranslationSearchConfig)
class TranslationSearchTask(TranslationTask):
    """Architecture search on translation.

    Raises:
        InputError: the options contradict each other or are out of range.
    """

    cfg: TranslationSearchConfig

    def __init__(self, cfg: TranslationSearchConfig, src_dict, tgt_dict):
        super().__init__(cfg, src_dict, tgt_dict)
        self.strategy: SearchStrategy = build_strategy(cfg)
        self.watch = SearchWatch(cfg, self.strategy.learns_alpha())
        # The training split as fairseq loads it, and what the strategy makes of it.
        self._training_split: FairseqDataset | None = None
        self._training_data: FairseqDataset | None = None

    def build_model(self, cfg, from_checkpoint: bool = False):
        """Build a supernet.

        Raises:
            InputError: the model is none.
        """
        model = super().build_model(cfg, from_checkpoint)
        if getattr(model.encoder, "alpha", None) is None:
            raise InputError(
                "--task translation_search needs a supernet (--arch dartsformer_search or "
                "darts_transformer_search); to train a derived model use --task translation"
            )
        self.strategy.prepare(model)
        return model

    def load_dataset(
        self, split: str, epoch: int = 1, combine: bool | None = None, **kwargs
    ) -> None:
        """Load a split; for training, what the strategy makes of it.

        To validate or to translate the training split is to go through it in order: validation
        says that it does not ``combine``, and translation gives the ``task_cfg`` of the model.

        Raises:
            InputError: data that the strategy needs do not exist or are empty.
        """
        super().load_dataset(split, epoch=epoch, combine=bool(combine), **kwargs)
        in_order = combine is False or "task_cfg" in kwargs
        if split == self.cfg.train_subset and not in_order:
            self._training_split = self.datasets[split]
            self._training_data = self.strategy.training_data(self, self._training_split, epoch)
            self.datasets[split] = self._training_data

    def get_batch_iterator(self, dataset, **kwargs):
        """fairseq's iterator; for training, the strategy's."""
        make = super().get_batch_iterator
        if dataset is not self._training_data:
            return make(dataset, **kwargs)
        # A search's validation of its training split asks with the same dataset, for an iterator of
        # its own; whether batches are shuffled in groups fairseq says of training alone.
        if kwargs.get("disable_iterator_cache") and "grouped_shuffling" not in kwargs:
            return make(self._training_split, **kwargs)
        self.watch.data = self.strategy.batches(self, dataset, make, **kwargs)
        return self.watch.data

    def train_step(
        self, sample, model, criterion, optimizer, update_num, ignore_grad: bool = False, **kwargs
    ):
        """Forward and backward pass, by the strategy."""
        fairseqs = super().train_step

        def step():
            return fairseqs(sample, model, criterion, optimizer, update_num, ignore_grad, **kwargs)

        return self.strategy.train_step(step, sample, model, optimizer, update_num, ignore_grad)

    def optimizer_step(self, optimizer, model, update_num) -> None:
        """The optimizer's step, and what the strategy does after it."""
        super().optimizer_step(optimizer, model, update_num)
        self.strategy.after_update(model, optimizer, update_num + 1)

    def valid_step(self, sample, model, criterion, **kwargs):
        """Forward pass, by the strategy."""
        fairseqs = super().valid_step
        return self.strategy.valid_step(
            lambda: fairseqs(sample, model, criterion, **kwargs), sample, model
        )

    def reduce_metrics(self, logging_outputs, criterion) -> None:
        """fairseq's figures and the strategy's."""
        super().reduce_metrics(logging_outputs, criterion)
        self.strategy.reduce_metrics(logging_outputs)

    def get_checkpoint_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps for watch and strategy, under the name that fairseq looks for.

        Official fairseq does not ask: there both begin anew when a search is resumed.
        """
        state = self.watch.state_dict()
        if strategys := self.strategy.state_dict():
            state["strategy"] = strategys
        return {type(self).__name__: state}

    def set_checkpoint_dict(self, state: dict[str, Any]) -> None:
        """Restore it, as far as there was any."""
        if "strategy" in state:
            self.strategy.load_state_dict(state["strategy"])
        if state.keys() - {"strategy"}:
            self.watch.load_state_dict(state)
