"""Gradients that a strategy computes itself, besides those of fairseq's backward pass."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import torch
from fairseq import utils
from fairseq.distributed import utils as distributed_utils
from fairseq.optim import FairseqOptimizer
from torch import Tensor, nn

from ..errors import InputError
from ..reversible.coupling import Mixtures
from ..search_space.levels import ALPHA, LEVELS, WEIGHTS, gradients_for
from ..search_space.sampling import chosen
from .alpha_strategy import AlphaStrategy, SplitStrategy, with_level_loss
from .strategy import StepResult

Batch = Mapping[str, Any]
# The loss of a batch, summed over its tokens or sentences, and their number.
Loss = Callable[[nn.Module, Batch], tuple[Tensor, int]]


class OwnGradients(AlphaStrategy):
    """Mixin of strategies that compute gradients in :meth:`before_optimizer_step`, from all of the
    update's batches and outside distributed wrappers: means over the batches of all workers.

    Attributes:
        loss: the criterion's.
    """

    loss: Loss

    def check(self) -> None:
        """Refuse half precision, in which such gradients lose their small values."""
        super().check()
        for half in ("fp16", "bf16", "amp"):
            if self.cfg[half]:
                raise InputError(
                    f"--{half} cannot be used with --search-strategy {self.name}, which computes "
                    "gradients without a loss scale"
                )

    def mean_loss(
        self,
        module: nn.Module,
        batches: Sequence[Batch],
        levels: Collection[str],
        update_num: int,
        mixtures: Mapping[str, Mixtures] | None = None,
        loss: Loss | None = None,
    ) -> tuple[Tensor, list[Tensor]]:
        """Return the mean loss over the batches of all workers, in nats, and its gradients.

        Args:
            module: the supernet without wrappers.
            batches: this worker's; all have equally many.
            levels: of the parameters that take gradients, which are in the model's order.
            update_num: number of finished updates.
            mixtures: what runs; by default what the update runs.
            loss: of one batch; by default the criterion's.
        """
        loss = loss or self.loss
        with gradients_for(module, levels), torch.set_grad_enabled(bool(levels)):
            parameters = [p for p in module.parameters() if p.requires_grad]
            sums = [torch.zeros_like(p) for p in parameters]
            total, size = 0.0, 0
            for batch in batches:
                # Anew for each batch: its backward pass frees the graph.
                running = mixtures or self.mixtures(module, levels, update_num)
                with chosen(module, running):
                    value, count = loss(module, batch)
                if levels:
                    found = torch.autograd.grad(value, parameters, allow_unused=True)
                    for summed, grad in zip(sums, found, strict=True):
                        if grad is not None:
                            summed += grad
                total, size = total + value.detach(), size + count
        numbers = torch.stack([total, total.new_tensor(float(size))])
        flat = torch.cat([numbers, *(s.flatten() for s in sums)])
        if torch.distributed.is_initialized():
            distributed_utils.all_reduce(flat, group=distributed_utils.get_data_parallel_group())
        means = flat / flat[1]
        parts = means[2:].split([s.numel() for s in sums])
        return means[0], [p.view_as(s) for p, s in zip(parts, sums, strict=True)]


class OnDemandStrategy(OwnGradients, SplitStrategy):
    """Each update moves the weights by batches of their data. Some also move alpha, before the
    weights have moved, by as many batches of alpha's data, drawn when they are needed.

    A subclass says when alpha moves (:meth:`moves_alpha`) and by which gradients
    (:meth:`alpha_gradients`).
    """

    alternating = False

    def check(self) -> None:
        """Begin with the first of alpha's batches."""
        super().check()
        self.position = 0  # batches of alpha's data that each worker has had
        self.pairs: list[tuple[Batch, Batch]] = []

    def moves_alpha(self, update_num: int) -> bool:
        """Whether the update after ``update_num`` finished ones moves alpha, too."""
        due = (update_num + 1 - self.arch_start) % self.arch_interval == 0
        return update_num >= self.arch_start and due

    def alpha_gradients(
        self, module: nn.Module, train: Sequence[Batch], valid: Sequence[Batch], update_num: int
    ) -> list[Tensor]:
        """Return the gradients of alpha, in the model's order.

        Args:
            module: the supernet without wrappers.
            train, valid: this worker's batches of the weights' data and of alpha's.
            update_num: number of finished updates.
        """
        return self.mean_loss(module, valid, (ALPHA,), update_num)[1]

    def train_step(
        self, train_step, sample, model, criterion, optimizer, update_num, ignore_grad
    ) -> StepResult:
        """Train the weights, and draw a batch for alpha."""
        self.level_of_batch(sample, ignore_grad)
        self.loss = lambda module, batch: criterion(module, batch)[:2]
        with self.passing((WEIGHTS,), model, optimizer, update_num):
            result = train_step(sample, model, criterion, optimizer, update_num, ignore_grad)
        if self.moves_alpha(update_num):
            self.pairs.append((sample, self.alpha_sample(sample)))
        return with_level_loss(result, WEIGHTS)

    def alpha_sample(self, sample: Batch) -> Batch:
        """Draw the next batch of alpha's data, for the device of the weights' ``sample``."""
        if self.iterator is None:  # the memory planner has one batch for everything
            return sample
        found = self.iterator.alpha_sample(self.position + len(self.pairs))
        target = sample["target"]
        return utils.move_to_cuda(found, target.device) if target.is_cuda else found

    def before_optimizer_step(
        self, model: nn.Module, optimizer: FairseqOptimizer, update_num: int
    ) -> None:
        """Compute alpha's gradients."""
        if self.moves_alpha(update_num):
            module = without_wrappers(model)
            train, valid = zip(*self.pairs, strict=True)
            grads = self.alpha_gradients(module, train, valid, update_num)
            add_gradients(parameters_of(module, (ALPHA,)), grads)
            optimizer.optimizer.levels = LEVELS
        super().before_optimizer_step(model, optimizer, update_num)

    def after_update(self, model: nn.Module, optimizer: FairseqOptimizer, update_num: int) -> None:
        """Count alpha's batches."""
        self.position += len(self.pairs)
        self.pairs = []

    def state_dict(self) -> dict[str, Any]:
        """The position in alpha's data."""
        return {"position": self.position}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue there."""
        self.position = state["position"]


def without_wrappers(model: nn.Module) -> nn.Module:
    """Return the supernet inside distributed wrappers."""
    while isinstance(getattr(model, "module", None), nn.Module):
        model = model.module
    return model


def parameters_of(module: nn.Module, levels: Collection[str]) -> list[nn.Parameter]:
    """The parameters of the levels, in the model's order."""
    with gradients_for(module, levels):
        return [p for p in module.parameters() if p.requires_grad]


def add_gradients(parameters: Sequence[nn.Parameter], grads: Sequence[Tensor]) -> None:
    """Add to the gradients that the optimizer is about to use."""
    for parameter, grad in zip(parameters, grads, strict=True):
        parameter.grad = grad if parameter.grad is None else parameter.grad + grad
