"""`repair`: restore a damaged sentence; `repair_search` searches an architecture for it."""

from dataclasses import dataclass, field

from fairseq.data import LanguagePairDataset
from fairseq.data.noising import NoisingDataset, UnsupervisedMTNoising
from fairseq.tasks import register_task
from fairseq.tasks.translation import TranslationConfig, TranslationTask

from fairseq_dartsformer.errors import InputError
from fairseq_dartsformer.tasks import TranslationSearchTask
from fairseq_dartsformer.tasks.translation_search import TranslationSearchConfig


@dataclass
class Damage:
    """Options of the damage that turns a target sentence into its source.

    fairseq reads these types for its parser, so that ``from __future__ import annotations``, which
    turns them into strings, cannot be used here.
    """

    drop: float = field(default=0.1, metadata={"help": "probability that a word is missing"})
    shuffle: int = field(default=3, metadata={"help": "how far a word may have moved"})


@dataclass
class RepairConfig(Damage, TranslationConfig):
    """Options of `repair`."""


@dataclass
class RepairSearchConfig(Damage, TranslationSearchConfig):
    """Options of `repair_search`."""


@register_task("repair", dataclass=RepairConfig)
class RepairTask(TranslationTask):
    """Translation from a damaged target sentence to the sentence; BPE marks the ends of words.

    Raises:
        InputError: an option is out of range, or the dictionaries differ.
    """

    def __init__(self, cfg: RepairConfig, src_dict, tgt_dict):
        if not 0 <= cfg.drop < 1:
            raise InputError(f"--drop is {cfg.drop}, it must lie in [0, 1)")
        if cfg.shuffle < 0 or cfg.shuffle == 1:
            raise InputError(f"--shuffle is {cfg.shuffle}, it must be 0, or at least 2")
        if src_dict != tgt_dict:
            raise InputError("the dictionaries differ: preprocess with --joined-dictionary")
        super().__init__(cfg, src_dict, tgt_dict)

    def load_dataset(self, split: str, epoch: int = 1, combine: bool = False, **kwargs) -> None:
        """Load a split as fairseq does, and replace its sources by damaged targets."""
        super().load_dataset(split, epoch, combine, **kwargs)
        pairs = self.datasets[split]
        damaged = NoisingDataset(
            pairs.tgt,
            self.target_dictionary,
            seed=1,
            noiser=UnsupervisedMTNoising(
                self.target_dictionary,
                max_word_shuffle_distance=self.cfg.shuffle,
                word_dropout_prob=self.cfg.drop,
                word_blanking_prob=0.0,
            ),
        )
        self.datasets[split] = LanguagePairDataset(
            damaged,
            pairs.tgt_sizes,  # an upper bound: the sources are not longer
            self.source_dictionary,
            pairs.tgt,
            pairs.tgt_sizes,
            self.target_dictionary,
        )


@register_task("repair_search", dataclass=RepairSearchConfig)
class RepairSearchTask(TranslationSearchTask, RepairTask):
    """The search on `repair`: each of the two parents extends `translation`."""
