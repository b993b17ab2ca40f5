"""Scores of architectures: a supernet runs only the operations of the architecture.

The score is that of a derived model with the supernet's weights.
"""

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from fairseq import checkpoint_utils, tasks, utils
from fairseq.data.iterators import EpochBatchIterator
from fairseq.logging import metrics
from fairseq.tasks import TASK_DATACLASS_REGISTRY
from omegaconf import DictConfig, OmegaConf, open_dict

from ..data import check_binarised
from ..errors import InputError
from ..fairseq_patches.reading import load_checkpoint, reading
from ..reversible.coupling import Mixtures
from ..search.snapshot import Snapshot, snapshot_of
from ..search_space.genotype import Genotype
from ..search_space.sampling import Choice, chosen
from .population import Architecture


@dataclass(frozen=True)
class ScoreConfig:
    """Everything a score depends on.

    Attributes:
        checkpoint: of a search.
        data: binarised.
        valid_subset: the split to score on.
        max_tokens: of a batch.
        score: ``"loss"`` (the search's criterion, in bits) or ``"bleu"``.
        beam, lenpen, remove_bpe, detok: for BLEU, as in fairseq's validation; the output is at most
            50 tokens longer than the input.
        fp16: compute in half precision.
    """

    checkpoint: str
    data: str
    valid_subset: str = "valid"
    max_tokens: int = 5000
    score: str = "loss"
    beam: int = 5
    lenpen: float = 1.0
    remove_bpe: str | None = None
    detok: str = "space"
    fp16: bool = False


class Scorer:
    """Scores architectures on a validation set.

    Attributes:
        options: the supernet's.

    Args:
        cfg: everything the scores depend on.
        device: where to compute.

    Raises:
        InputError: the checkpoint is not of a search, or the data are missing or do not fit.
    """

    def __init__(self, cfg: ScoreConfig, device: torch.device | str = "cpu"):
        self.cfg, self.device = cfg, torch.device(device)
        state = load_checkpoint(cfg.checkpoint)
        self.snapshot: Snapshot = snapshot_of(state, cfg.checkpoint)
        self.nodes = list(self.snapshot.nodes())
        with reading(cfg.checkpoint):
            try:
                self.task = self._task(state["cfg"])
            except FileNotFoundError as error:  # the data's, not the checkpoint's
                raise InputError(f"{error.filename}: {error.strerror}") from None
            (model,), saved = checkpoint_utils.load_model_ensemble(
                [cfg.checkpoint], task=self.task, state=state
            )
            self.criterion = self.task.build_criterion(saved.criterion)
        self.options = saved.model
        self.model = (model.half() if cfg.fp16 else model).to(self.device).eval()
        self.criterion.to(self.device).eval()
        self.batches = self._batches()

    def _task(self, saved: DictConfig) -> tasks.FairseqTask:
        """The task of derived models; that of a search would choose the architectures itself."""
        cfg, name = self.cfg, self.snapshot.family.task
        if cfg.score == "bleu" and name != "translation":
            raise InputError(f"--score is bleu, it must be loss after a search on {name}")
        with open_dict(saved):
            saved.task._name, saved.task.data = name, cfg.data
            saved.task.eval_bleu = cfg.score == "bleu"
            saved.task.eval_bleu_args = json.dumps(
                {"beam": cfg.beam, "lenpen": cfg.lenpen, "max_len_a": 1, "max_len_b": 50}
            )
            saved.task.eval_bleu_detok = cfg.detok
            saved.task.eval_bleu_remove_bpe = cfg.remove_bpe
        fields = TASK_DATACLASS_REGISTRY[name].__dataclass_fields__
        known = [option for option in saved.task if option in fields]
        return tasks.setup_task(OmegaConf.masked_copy(saved.task, known))

    def _batches(self) -> list[dict]:
        """The validation set on the device."""
        batches = self._iterator(self.cfg.valid_subset, "--valid-subset is")
        return list(map(self._on_device, batches.next_epoch_itr(shuffle=False)))

    def training_batches(self, seed: int) -> Iterator[dict]:
        """Yield batches of the training split on the device, shuffled by ``seed``, without end;
        raise an :class:`InputError` if the data have no such split."""
        batches = self._iterator("train", "--tune-updates needs", combine=True, seed=seed)

        def endless() -> Iterator[dict]:
            while True:
                yield from map(self._on_device, batches.next_epoch_itr())

        return endless()

    def _on_device(self, batch: dict) -> dict:
        return utils.apply_to_sample(lambda t: t.to(self.device), batch)

    def _iterator(
        self, split: str, demand: str, combine: bool = False, seed: int = 1
    ) -> EpochBatchIterator:
        """The batches of a split, without sentences too long for the model or a batch; ``demand``
        is an error's first words."""
        cfg, task = self.cfg, self.task
        folder = utils.split_paths(cfg.data)[0]
        languages = [task.cfg.source_lang, task.cfg.target_lang] if task.cfg else ()
        check_binarised(folder, split, languages, combine)
        try:
            task.load_dataset(split, combine=combine, epoch=1)
        except FileNotFoundError:
            raise InputError(
                f"{demand} {split!r}, but there is no such binarised split in {folder}"
            ) from None
        batches = task.get_batch_iterator(
            dataset=task.dataset(split),
            max_tokens=cfg.max_tokens,
            max_positions=utils.resolve_max_positions(
                task.max_positions(), self.model.max_positions(), cfg.max_tokens
            ),
            ignore_invalid_inputs=True,
            seed=seed,
        )
        if len(batches.frozen_batches) == 0:
            raise InputError(
                f"--max-tokens is {cfg.max_tokens}, which every sentence of the split {split} "
                "exceeds"
            )
        return batches

    def choice(self, architecture: Architecture) -> Choice:
        """Convert an architecture to the form that the supernet takes."""
        return self.snapshot.choice(dict(zip(self.nodes, architecture, strict=True)))

    def architecture(self, genotype: Genotype) -> Architecture:
        """Convert a genotype of this search space to an architecture."""
        return tuple(
            self.snapshot.candidates[n.stack].index(getattr(genotype, n.stack)[n.layer][n.place])
            for n in self.nodes
        )

    def allowed(self) -> list[list[int]]:
        """For every node the candidates that the search has not pruned."""
        active = self.snapshot.active
        return [active[n.stack][n.layer][n.row] for n in self.nodes]

    def parameters(self) -> tuple[list[list[int]], int]:
        """Parameters that each candidate of each node adds to a derived model, and those of every
        derived model."""
        table, searched = [], 0
        for node in self.nodes:
            layers = getattr(self.model, node.stack).stack.layers
            block = len(self.snapshot.alpha[node.stack])
            mixed = [layer.nodes[node.place] for layer in list(layers)[node.layer :: block]]
            sizes = [
                sum(p.numel() for operation in repeated for p in operation.parameters())
                for repeated in zip(*mixed, strict=True)
            ]
            table.append(sizes)
            searched += sum(sizes)
        alpha = sum(alpha.numel() for alpha in self.snapshot.alpha.values())
        return table, sum(p.numel() for p in self.model.parameters()) - searched - alpha

    def score(self, architecture: Architecture) -> float:
        """Loss in bits (infinite instead of NaN) or BLEU."""
        return self.score_mixtures(self.choice(architecture))

    @torch.no_grad()
    def score_mixtures(self, mixtures: Mapping[str, Mixtures]) -> float:
        """As :meth:`score`, with the given mixtures, by stack, in the search nodes."""
        with (
            chosen(self.model, mixtures),
            metrics.aggregate(new_root=True) as meters,
        ):
            logs = [
                self.task.valid_step(batch, self.model, self.criterion)[-1]
                for batch in self.batches
            ]
            self.task.reduce_metrics(logs, self.criterion)
        if self.cfg.score == "bleu":
            return float(meters.get_smoothed_value("bleu"))
        loss = float(meters["loss"].avg)
        return loss if math.isfinite(loss) else math.inf
