"""Selection by perturbation: DARTS-PT (Wang et al. 2021, arXiv:2108.04392)."""

import math
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from itertools import islice
from random import Random

import torch
from fairseq import utils

from ..errors import InputError
from ..reversible.coupling import Partial
from ..search.snapshot import SearchNode, derive
from ..search_space.alpha import is_alpha
from ..search_space.genotype import Genotype
from ..search_space.sampling import chosen
from .scoring import Scorer


@dataclass(frozen=True)
class PerturbationConfig:
    """Settings of a selection.

    Attributes:
        seed: of the order of the nodes, and of the batches and dropout of tuning.
        tune_updates: updates of the weights between two nodes.
        tune_lr: learning rate of these updates.
    """

    seed: int = 1
    tune_updates: int = 0
    tune_lr: float = 1e-4  # a choice of ours


class Perturbation:
    """Selects a candidate for one search node after another, in random order.

    Each candidate of a node is left out: its mixing weight is zero, and the others keep theirs. The
    node keeps the candidate whose absence gives the largest validation loss, the first of equals,
    with weight 1. Before the next node, the weights may be tuned on the training split, by Adam.

    Attributes:
        candidates: of each search node, in the order of selection, those that it may keep.
        validations: how many :meth:`run` does.
        losses: by node, the validation loss in bits without each candidate, by its name; empty for
            a node that may keep only one.

    Args:
        scorer: holds the supernet, whose weights are tuned in place.
        exclude: operations that are not kept, by default the search's own.
        cfg: settings.

    Raises:
        InputError: ``exclude`` leaves a node without candidates, the strategy did not learn alpha,
            or there is no training split to tune on.
    """

    def __init__(
        self,
        scorer: Scorer,
        exclude: Collection[str] | None = None,
        cfg: PerturbationConfig = PerturbationConfig(),
    ):
        self.scorer, self.cfg, snapshot = scorer, cfg, scorer.snapshot
        derive(snapshot, exclude)  # reports what cannot be derived from
        exclude = snapshot.exclude if exclude is None else exclude
        self.weights = {s: w.to(scorer.device, copy=True) for s, w in snapshot.weights.items()}
        self.active = snapshot.active  # the candidates that run
        nodes = list(snapshot.nodes())
        Random(cfg.seed).shuffle(nodes)
        self.candidates: dict[SearchNode, list[int]] = {}
        for node in nodes:
            names, active = snapshot.candidates[node.stack], self.active[node.stack]
            allowed = [o for o in active[node.layer][node.row] if names[o] not in exclude]
            self.candidates[node] = allowed
        self.validations = sum(len(c) for c in self.candidates.values() if len(c) > 1)
        self.losses: dict[SearchNode, dict[str, float]] = {node: {} for node in nodes}
        if cfg.tune_updates:
            self.batches = scorer.training_batches(cfg.seed)
            weights = [p for p in scorer.model.parameters() if not is_alpha(p)]
            self.optimizer = torch.optim.Adam(weights, cfg.tune_lr, betas=(0.9, 0.98))

    @property
    def genotype(self) -> Genotype:
        """The genotype of the selected candidates, after :meth:`run`."""
        choice = {
            stack: [[row[0] for row in layer] for layer in active]
            for stack, active in self.active.items()
        }
        return self.scorer.snapshot.genotype(choice)

    def run(self) -> Iterator[float]:
        """Select; yield the loss after each validation.

        Raises:
            InputError: a loss is not finite.
        """
        utils.set_torch_seed(self.cfg.seed)
        names = self.scorer.snapshot.candidates
        for number, (node, candidates) in enumerate(self.candidates.items()):
            if number > 0 and self.cfg.tune_updates:
                self._tune()
            losses = {}
            for o in candidates if len(candidates) > 1 else []:
                losses[o] = self._loss_without(o, node)
                self.losses[node][names[node.stack][o]] = losses[o]
                yield losses[o]
            kept = max(candidates, key=lambda o: losses.get(o, 0))
            self.active[node.stack][node.layer][node.row] = [kept]
            self.weights[node.stack][node.layer, node.row, kept] = 1

    def _mixtures(self) -> dict[str, Partial]:
        return {
            stack: Partial(self.weights[stack], active) for stack, active in self.active.items()
        }

    def _loss_without(self, o: int, node: SearchNode) -> float:
        layer = self.active[node.stack][node.layer]
        complete = layer[node.row]
        layer[node.row] = [other for other in complete if other != o]
        loss = self.scorer.score_mixtures(self._mixtures())
        layer[node.row] = complete
        if not math.isfinite(loss):
            snapshot = self.scorer.snapshot
            name = snapshot.candidates[node.stack][o]
            raise InputError(
                f"{snapshot.path}: the validation loss without {name} in {snapshot.name(node)} is "
                f"not finite, after {self.cfg.tune_updates} --tune-updates a node at --tune-lr "
                f"{self.cfg.tune_lr:g}"
            )
        return loss

    def _tune(self) -> None:
        """Update the weights of the operations that run."""
        model, criterion = self.scorer.model, self.scorer.criterion
        model.train()
        with chosen(model, self._mixtures()):
            for batch in islice(self.batches, self.cfg.tune_updates):
                self.optimizer.zero_grad()
                loss, sample_size, _ = criterion(model, batch)
                (loss / sample_size).backward()
                self.optimizer.step()
        model.eval()
