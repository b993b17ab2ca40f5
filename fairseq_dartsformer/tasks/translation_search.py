"""`translation_search`: translation whose updates alternate between theta and alpha (Algorithm 2).

batches of two levels -> one level's gradients -> that level's Adam
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, List, Optional

import numpy as np
import torch
from fairseq import utils
from fairseq.data import data_utils
from fairseq.dataclass import ChoiceEnum
from fairseq.logging import metrics
from fairseq.tasks import register_task
from fairseq.tasks.translation import TranslationConfig, TranslationTask
from omegaconf import II

from ..data import BilevelBatchIterator, BilevelDataset
from ..errors import InputError
from ..levels import ALPHA, LEVELS, WEIGHTS, gradients_for
from ..search_space import entropy

DEFAULT_ARCH_FRACTION = 2.0 / 4.5  # Section 3.2: 4.5M pairs, 2.5M for theta and 2.0M for alpha
SEARCH_STRATEGIES = ChoiceEnum(["darts"])


@dataclass
class TranslationSearchConfig(TranslationConfig):
    """Options besides those of fairseq's `translation`."""

    arch_fraction: Optional[float] = field(
        default=None,
        metadata={
            "help": "fraction of the training sentences that alpha is updated on, drawn by --seed; "
            "the weights have the rest (default: 2.0/4.5)"
        },
    )
    arch_subset: Optional[str] = field(
        default=None,
        metadata={
            "help": "binarised split that alpha is updated on, in place of --arch-fraction; the "
            "weights then have all of the training data"
        },
    )
    search_strategy: SEARCH_STRATEGIES = field(
        default="darts", metadata={"help": "how the supernet is trained"}
    )
    seed: int = II("common.seed")
    memory_efficient_fp16: bool = II("oc.select:common.memory_efficient_fp16,false")
    memory_efficient_bf16: bool = II("oc.select:common.memory_efficient_bf16,false")
    update_freq: List[int] = II("optimization.update_freq")
    # Commands that do not train have no optimizer.
    optimizer_name: Optional[str] = II("oc.select:optimizer._name,null")


@register_task("translation_search", dataclass=TranslationSearchConfig)
class TranslationSearchTask(TranslationTask):
    """Differentiable architecture search on translation.

    theta is updated on L_train and alpha on L_val, in turn, to first order. ``num_updates`` counts
    both.
    """

    cfg: TranslationSearchConfig

    def __init__(self, cfg: TranslationSearchConfig, src_dict, tgt_dict):
        super().__init__(cfg, src_dict, tgt_dict)
        self._entropy: torch.Tensor | None = None

    @classmethod
    def setup_task(cls, cfg: TranslationSearchConfig, **kwargs):
        """Load the dictionaries and check the search's options.

        Raises:
            InputError: options that contradict each other or are out of range.
        """
        if cfg.arch_subset is not None and cfg.arch_fraction is not None:
            raise InputError("--arch-subset and --arch-fraction exclude each other: give one")
        if cfg.arch_fraction is not None and not 0 < cfg.arch_fraction < 1:
            raise InputError(f"--arch-fraction is {cfg.arch_fraction}, it must lie between 0 and 1")
        for half in ("fp16", "bf16"):
            if cfg[f"memory_efficient_{half}"]:
                raise InputError(
                    f"--memory-efficient-{half} keeps no float32 copies, which bilevel_adam needs: "
                    f"use --{half}"
                )
        return super().setup_task(cfg, **kwargs)

    def build_model(self, cfg, from_checkpoint: bool = False):
        model = super().build_model(cfg, from_checkpoint)
        if getattr(model.encoder, "alpha", None) is None:
            raise InputError(
                "--task translation_search needs a supernet (--arch dartsformer_search or "
                "darts_transformer_search); to train a derived model use --task translation"
            )
        return model

    # -- data of the two levels

    def load_dataset(
        self, split: str, epoch: int = 1, combine: bool | None = None, **kwargs
    ) -> None:
        """Load a split; for training, alpha's data beside the weights'.

        Validation, also on the training split, says that it does not ``combine``.

        Raises:
            InputError: alpha's or the weights' data do not exist or are empty.
        """
        super().load_dataset(split, epoch=epoch, combine=bool(combine), **kwargs)
        if split != self.cfg.train_subset or combine is False:
            return
        train = self.datasets[split]
        if self.cfg.arch_subset is None:
            datasets = dict.fromkeys(LEVELS, train)
            members = self._split(len(train))
        else:
            datasets = {WEIGHTS: train, ALPHA: self._load_arch_subset(epoch)}
            members = {level: np.arange(len(datasets[level])) for level in LEVELS}
        self.datasets[split] = BilevelDataset(datasets, members)

    def _split(self, sentences: int) -> dict[str, np.ndarray]:
        """Divide the training sentences between the levels, by sentence, fixed by the seed."""
        fraction = self.cfg.arch_fraction or DEFAULT_ARCH_FRACTION
        count = round(fraction * sentences)
        if not 0 < count < sentences:
            raise InputError(
                f"--arch-fraction {fraction:g} of {sentences} training sentences leaves "
                f"{count} to alpha and {sentences - count} to the weights: each needs one at least"
            )
        with data_utils.numpy_seed(self.cfg.seed):
            order = np.random.permutation(sentences)
        return {ALPHA: np.sort(order[:count]), WEIGHTS: np.sort(order[count:])}

    def _division(self) -> str:
        """The options that decide which sentences are whose."""
        if self.cfg.arch_subset is not None:
            return f"--arch-subset {self.cfg.arch_subset}"
        fraction = self.cfg.arch_fraction or DEFAULT_ARCH_FRACTION
        return f"--arch-fraction {fraction:g} and --seed {self.cfg.seed}"

    def _load_arch_subset(self, epoch: int):
        name = self.cfg.arch_subset
        if name == self.cfg.train_subset:
            raise InputError(
                f"--arch-subset is {name!r}, the weights' own data; to divide them use "
                "--arch-fraction"
            )
        folder = utils.split_paths(self.cfg.data)[0]
        # fairseq cannot open an empty one.
        if any(path.stat().st_size == 0 for path in Path(folder).glob(f"{name}.*.bin")):
            raise InputError(f"--arch-subset is {name!r}, which is empty")
        try:
            super().load_dataset(name, epoch=epoch)
        except FileNotFoundError:
            raise InputError(
                f"--arch-subset is {name!r}, but there is no such binarised split in {folder}"
            ) from None
        return self.datasets[name]

    def get_batch_iterator(self, dataset, *args, **kwargs):
        """fairseq's iterator, or for a search's training data a :class:`BilevelBatchIterator`."""
        if not isinstance(dataset, BilevelDataset):
            return super().get_batch_iterator(dataset, *args, **kwargs)
        if self.cfg.optimizer_name != "bilevel_adam":
            raise InputError(
                f"--optimizer is {self.cfg.optimizer_name}, --task translation_search needs "
                "bilevel_adam"
            )
        return self._bilevel_iterator(dataset, *args, **kwargs)

    def _bilevel_iterator(
        self,
        dataset: BilevelDataset,
        max_tokens=None,
        max_sentences=None,
        max_positions=None,
        ignore_invalid_inputs: bool = False,
        required_batch_size_multiple: int = 1,
        seed: int = 1,
        epoch: int = 1,
        data_buffer_size: int = 0,
        disable_iterator_cache: bool = False,
        update_epoch_batch_itr: bool = False,
        **arguments: Any,
    ) -> BilevelBatchIterator:
        if dataset in self.dataset_to_epoch_iter and not disable_iterator_cache:
            return self.dataset_to_epoch_iter[dataset]
        # Batches of the first epoch whatever the epoch is, so that a resumed search has the same;
        # shards have their own, which resuming loads again.
        batches_epoch = epoch if self.has_sharded_data("train") else 1
        dataset.set_epoch(batches_epoch)
        batches = {}
        for level in LEVELS:
            data = dataset.datasets[level]
            with data_utils.numpy_seed(seed + batches_epoch):
                indices = dataset.ordered_members(level)
            if max_positions is not None:
                indices = self.filter_indices_by_size(
                    indices, data, max_positions, ignore_invalid_inputs
                )
            if len(indices) == 0:
                raise InputError(
                    f"no sentence is left to update {level} on: there is none, or all are longer "
                    f"than --max-source-positions, --max-target-positions or --max-tokens allow "
                    f"{max_positions}"
                )
            level_batches = data.batch_by_size(
                indices,
                max_tokens=max_tokens,
                max_sentences=max_sentences,
                required_batch_size_multiple=required_batch_size_multiple,
            )
            if len(level_batches) == 0:
                raise InputError(
                    f"the {len(indices)} sentences to update {level} on make no batch: fairseq "
                    "leaves out a last one that --required-batch-size-multiple "
                    f"{required_batch_size_multiple} does not divide"
                )
            batches[level] = [
                [int(i) + dataset.offsets[level] for i in batch] for batch in level_batches
            ]
        iterator = BilevelBatchIterator(
            dataset,
            batches,
            self.cfg.update_freq,
            seed=seed,
            epoch=epoch,
            buffer_size=data_buffer_size,
            reuse_dataloader=True,
            division=self._division(),
            **arguments,
        )
        if not disable_iterator_cache:
            self.dataset_to_epoch_iter[dataset] = iterator
        return iterator

    # -- one update

    def train_step(
        self, sample, model, criterion, optimizer, update_num, ignore_grad: bool = False, **kwargs
    ):
        """Forward and backward pass of the level that the batch carries.

        A dummy batch, which fairseq gives to a worker without data, is never asked for its level;
        :class:`BilevelBatchIterator` leaves no worker without.
        """
        if ignore_grad:
            raise RuntimeError("a worker was left without a batch of the search")
        level = optimizer.optimizer.level = sample["level"]
        with gradients_for(model, level):
            loss, sample_size, logging_output = super().train_step(
                sample, model, criterion, optimizer, update_num, ignore_grad, **kwargs
            )
        # Summed over workers like the rest; reduce_metrics tells the levels apart by them.
        logging_output[f"loss_{level}"] = logging_output["loss"]
        logging_output[f"sample_size_{level}"] = sample_size
        self._entropy = mean_entropy(model)
        return loss, sample_size, logging_output

    def reduce_metrics(self, logging_outputs, criterion) -> None:
        """fairseq's figures; in training also each level's loss and alpha's mean entropy."""
        super().reduce_metrics(logging_outputs, criterion)
        for level in LEVELS:
            size = sum(log.get(f"sample_size_{level}", 0) for log in logging_outputs)
            if size > 0:
                loss = sum(log.get(f"loss_{level}", 0) for log in logging_outputs)
                # In bits, as fairseq's own loss.
                loss = loss / size / np.log(2)
                metrics.log_scalar(f"loss_{level}", loss, size, priority=15, round=3)
                metrics.log_scalar("alpha_entropy", self._entropy, priority=16, round=4, weight=0)


def mean_entropy(model) -> torch.Tensor:
    """Entropy of the mixing weights in nats, the mean over all search nodes."""
    with torch.no_grad():
        alphas = (model.encoder.alpha, model.decoder.alpha)
        return torch.cat([entropy(alpha).flatten() for alpha in alphas]).mean()
