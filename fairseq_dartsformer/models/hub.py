"""Trained models in Python: fairseq's hub interface, safe and with scores of translations."""

from __future__ import annotations

import os
from copy import deepcopy
from typing import Any, ClassVar

import torch
from fairseq import hub_utils, utils
from fairseq.data import LanguagePairDataset, encoders
from fairseq.dataclass.utils import overwrite_args_by_name
from fairseq.sequence_scorer import SequenceScorer
from fairseq.tasks import FairseqTask
from omegaconf import DictConfig
from torch import Tensor, nn

from ..errors import InputError
from ..search_space.sampling import searched_stacks


class TranslationHub(hub_utils.GeneratorHubInterface):
    """fairseq's interface: ``translate``, ``sample``, ``encode``, ``decode``, ``generate`` ...

    ``score``, which fairseq has for language models only, scores translations.
    """

    def __init__(self, cfg: DictConfig, task: FairseqTask, models: list[nn.Module]):
        super().__init__(cfg, task, models)
        self.target_tokenizer = None
        if self.tokenizer is not None:
            target = deepcopy(cfg.tokenizer)
            overwrite_args_by_name(target, {"source_lang": cfg.task.target_lang})
            self.target_tokenizer = encoders.build_tokenizer(target)

    def score(
        self, sentences: str | list[str], translations: str | list[str]
    ) -> dict[str, Tensor] | list[dict[str, Tensor]]:
        """Score translations of sentences, with teacher forcing.

        Args:
            sentences: one sentence or several, as for ``translate``.
            translations: as many, as ``translate`` returns them.

        Returns:
            For each pair fairseq's dictionary of a hypothesis: ``tokens`` `T`, EOS included,
            ``positional_scores`` `T`, their log-probabilities (natural logarithm), ``score``, the
            mean of these, and others.

        Raises:
            ValueError: the lists differ in length.
        """
        if isinstance(sentences, str):
            return self.score([sentences], [translations])[0]
        if len(sentences) != len(translations):
            raise ValueError(
                f"translations has {len(translations)} sentences, expected {len(sentences)}"
            )
        sources = [self.encode(sentence) for sentence in sentences]
        targets = [self.encode_translation(translation) for translation in translations]
        pairs = LanguagePairDataset(
            *(sources, torch.tensor([len(source) for source in sources]), self.src_dict),
            *(targets, torch.tensor([len(target) for target in targets]), self.tgt_dict),
            shuffle=False,
        )
        batches = self.task.get_batch_iterator(
            pairs,
            max_tokens=self.cfg.dataset.max_tokens,
            max_sentences=self.cfg.dataset.batch_size,
            max_positions=self.max_positions,
            disable_iterator_cache=True,
        )
        scorer, scores = SequenceScorer(self.tgt_dict), {}
        for batch in batches.next_epoch_itr(shuffle=False):
            batch = utils.apply_to_sample(lambda tensor: tensor.to(self.device), batch)
            hypotheses = scorer.generate(self.models, batch)
            scores.update(zip(batch["id"].tolist(), hypotheses, strict=True))
        return [scores[i][0] for i in range(len(pairs))]

    def encode_translation(self, sentence: str) -> Tensor:
        """Tokens `T` of a sentence in the target language; ``encode`` takes one in the source's."""
        if self.target_tokenizer is not None:
            sentence = self.target_tokenizer.encode(sentence)
        line = self.apply_bpe(sentence)
        return self.tgt_dict.encode_line(line, add_if_not_exist=False).long()


class HubModel:
    """Mixin in front of fairseq's class: loading a model for use in Python.

    Attributes:
        HUB: the interface to loaded models.
    """

    HUB: ClassVar[type[hub_utils.GeneratorHubInterface]] = TranslationHub

    @classmethod
    def from_pretrained(
        cls,
        model_name_or_path: str | os.PathLike,
        checkpoint_file: str = "model.pt",
        data_name_or_path: str | os.PathLike = ".",
        **options: Any,
    ) -> hub_utils.GeneratorHubInterface:
        """Load trained models of this class; nothing that a checkpoint names is imported or run.

        The tokenizer's languages are those of a translation model.

        Args:
            model_name_or_path: the folder of the checkpoints. fairseq would also take an archive
                or a URL, but unpacks them over other files.
            checkpoint_file: name of the checkpoint, or several, separated by colons: an ensemble.
            data_name_or_path: the folder of the dictionaries; if it begins with a dot, it is
                relative to that of the checkpoints.
            options: of fairseq's commands, such as ``bpe="subword_nmt", bpe_codes=FILE``,
                ``tokenizer="moses"``, ``user_dir=FOLDER``; they replace the checkpoint's.

        Raises:
            InputError: there is no such folder, or the checkpoint is damaged, holds more than plain
                types, or is of another class.
        """
        folder, data = os.fspath(model_name_or_path), os.fspath(data_name_or_path)
        inside = os.path.join(folder, data) if data.startswith(".") else data
        for name, path in (("model_name_or_path", folder), ("data_name_or_path", inside)):
            if not os.path.isdir(path):
                raise InputError(f"{name} is {path}, it must be a folder; unpack archives first")
        loaded = hub_utils.from_pretrained(folder, checkpoint_file, data, **options)
        cfg, task, models = (loaded[name] for name in ("args", "task", "models"))
        for model in models:
            if not isinstance(model, cls):
                found = type(model).__name__
                supernet = bool(searched_stacks(model))
                raise InputError(
                    f"checkpoint_file is {checkpoint_file}, a {found}: use {found}.from_pretrained"
                    + f", or derive and train a {cls.__name__}" * supernet
                )
        languages = ("source_lang", "target_lang")
        overwrite_args_by_name(cfg, {n: task.cfg[n] for n in languages if n in cfg.task})
        return cls.HUB(cfg, task, models)
