"""The base class of strategies that learn alpha, with all data for both levels or one candidate."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, ClassVar

import torch
from fairseq import utils
from fairseq.criterions import FairseqCriterion
from fairseq.distributed import utils as distributed_utils
from fairseq.optim import FairseqOptimizer
from torch import Tensor, nn

from ..errors import InputError
from ..reversible.coupling import Mixtures, Partial
from ..search_space.levels import ALPHA, LEVELS, WEIGHTS, gradients_for
from ..search_space.relaxation import drawing, with_noise
from ..search_space.sampling import chosen, searched_node, searched_stacks
from .options import ALPHA_OPTIONS, at_least, read_names
from .penalties import SCHEDULED, LatencyDeviation, build_penalties, penalty_gradients
from .strategy import (
    BILEVEL,
    SearchStrategy,
    StepResult,
    master_copies,
    remove_gradients_not_chosen,
)

Batch = Mapping[str, Any]
# The loss of a batch, summed over its tokens or sentences, and their number.
Loss = Callable[[nn.Module, Batch], tuple[Tensor, int]]


class AlphaStrategy(SearchStrategy):
    """Learns alpha: when it starts, what runs in an update, and penalties.

    A subclass that samples overrides :meth:`sample`.

    Attributes:
        float32_only: whether it computes gradients in :meth:`before_optimizer_step`, from all of
            the update's batches and outside distributed wrappers. They have no loss scale, without
            which small values are lost in half precision.
        exclude: operations that are not derived (``--derive-exclude``).
        loss: the criterion's.
    """

    levels = LEVELS
    optimizer = BILEVEL
    options = ALPHA_OPTIONS
    float32_only: ClassVar[bool] = False
    loss: Loss

    def check(self) -> None:
        """Read the options of all strategies that learn alpha."""
        cfg = self.cfg
        self.arch_start = at_least(cfg, "arch_start", 0, 0)
        at_least(cfg, "arch_noise", 0)
        self.exclude = read_names(cfg.derive_exclude, "--derive-exclude")
        self.penalties = build_penalties(cfg, self.exclude)
        if cfg.arch_noise or any(penalty in SCHEDULED for _, penalty in self.penalties):
            self.progress(0)  # reports a search without an end
        if self.float32_only:
            self.refuse_half_precision(f"--search-strategy {self.name}")

    def prepare(self, model: nn.Module) -> None:
        """Check what can be derived, and the target of latency, too."""
        super().prepare(model)
        for stack, coder in searched_stacks(model).items():
            names = searched_node(coder).names
            if not {*names} - {*self.exclude}:
                raise InputError(
                    f"--derive-exclude is {self.cfg.derive_exclude}: leaves no candidate of the "
                    f"{stack}, which has {', '.join(names)}"
                )
        if self.latency is not None:
            self.latency.check(model, self.cfg._get_root().model)

    @property
    def latency(self) -> LatencyDeviation | None:
        """The penalty on latency, if there is one."""
        return next((p for _, p in self.penalties if isinstance(p, LatencyDeviation)), None)

    @torch.no_grad()
    def statistics(self, model: nn.Module) -> dict[str, float]:
        """The latency of what would be derived, in milliseconds, if it has a target."""
        if self.latency is None:
            return {}
        return {"latency": float(self.latency.derived(searched_stacks(model)))}

    def begin(self, coder: nn.Module) -> None:
        """Give a stack's alpha its first values, if they are not the model's."""

    def move_always(self) -> None:
        """Move alpha from the first update on."""
        self.arch_start = 0

    def refuse_half_precision(self, name: str) -> None:
        """Raise an :class:`InputError` in half precision, for something that computes gradients
        without a loss scale."""
        for half in ("fp16", "bf16", "amp"):
            if self.cfg[half]:
                raise InputError(
                    f"--{half} cannot be used with {name}, which computes gradients without a "
                    "loss scale"
                )

    def progress(self, update_num: int) -> float:
        """Return the share of ``--max-update`` that is done; an :class:`InputError` without it."""
        total = self.cfg.max_update
        if not total:
            raise InputError(
                f"--max-update is {total}, it must be the search's length: something that changes "
                f"linearly over a search by {self.name} depends on it"
            )
        return min(1.0, update_num / total)

    def sample(self, coder: nn.Module, update_num: int) -> Tensor | Partial:
        """Return the mixing weights of a stack in an update; random numbers come from torch's
        generator of the CPU, which is seeded for the update."""
        return coder.mixing_weights()

    def mixtures(
        self, model: nn.Module, levels: Collection[str], update_num: int
    ) -> dict[str, Mixtures]:
        """Return what runs in an update of ``levels``, by stack: the same in all batches and on all
        workers, and after a resume."""
        with drawing(f"{self.cfg.seed} update {update_num}"):
            found = {}
            for stack, coder in searched_stacks(model).items():
                weights = self.sample(coder, update_num)
                dense = isinstance(weights, Tensor)
                if dense and self.cfg.arch_noise and ALPHA not in levels:
                    scale = self.cfg.arch_noise * self.progress(update_num)
                    weights = with_noise(weights, scale, coder.mask)
                found[stack] = coder.mix(weights) if dense else weights
            return found

    @contextmanager
    def passing(
        self,
        levels: Collection[str],
        model: nn.Module,
        optimizer: FairseqOptimizer,
        update_num: int,
    ) -> Iterator[None]:
        """Wraps a forward and backward pass of an update of ``levels``."""
        with self.updating(levels, model, optimizer):
            mixtures = self.mixtures(model, levels, update_num)
            with chosen(model, mixtures):
                yield

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
            batches: this worker's; perhaps none, after a lack of memory.
            levels: of the parameters that take gradients, which are in the model's order.
            update_num: number of finished updates.
            mixtures: what runs; by default what the update runs.
            loss: of one batch; by default the criterion's.
        """
        loss = loss or self.loss
        parameters = parameters_of(module, levels)
        with gradients_for(module, levels), torch.set_grad_enabled(bool(levels)):
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
        total = torch.as_tensor(total, device=next(module.parameters()).device)
        numbers = torch.stack([total, total.new_tensor(float(size))])
        flat = torch.cat([numbers, *(s.flatten() for s in sums)])
        sum_over_workers(flat)
        means = flat / flat[1].clamp_min(1)  # no worker may have had memory for a batch
        parts = means[2:].split([s.numel() for s in sums])
        return means[0], [p.view_as(s) for p, s in zip(parts, sums, strict=True)]

    def before_optimizer_step(
        self, model: nn.Module, optimizer: FairseqOptimizer, update_num: int
    ) -> None:
        """Add the gradients of the penalties; remove those of candidates that did not run."""
        levels = optimizer.optimizer.levels
        with torch.no_grad():
            mixtures = self.mixtures(model, levels, update_num)
        remove_gradients_not_chosen(model, optimizer, mixtures)
        if ALPHA not in levels or not self.penalties:
            return
        if hasattr(optimizer, "_unscale_grads"):
            optimizer._unscale_grads()  # fairseq multiplies gradients of half precision at the step
        coders = searched_stacks(model)
        grads = penalty_gradients(self.penalties, coders, partial(self.progress, update_num))
        copies, alphas = master_copies(optimizer), [coder.alpha for coder in coders.values()]
        add_gradients([copies.get(alpha, alpha) for alpha in alphas], grads)


def without_wrappers(model: nn.Module) -> nn.Module:
    """Return the supernet inside distributed wrappers."""
    while isinstance(getattr(model, "module", None), nn.Module):
        model = model.module
    return model


def parameters_of(module: nn.Module, levels: Collection[str]) -> list[nn.Parameter]:
    """The parameters of the levels, in the model's order."""
    with gradients_for(module, levels):
        return [p for p in module.parameters() if p.requires_grad]


def loss_of(criterion: FairseqCriterion) -> Loss:
    """Return the criterion's loss and sample size."""
    return lambda module, batch: criterion(module, batch)[:2]


@contextmanager
def abandoning(kept: list[Any]) -> Iterator[None]:
    """Wraps a batch's pass: if it fails, empty the list of what an update has kept of its batches.

    After a lack of memory, fairseq zeroes the update's gradients and goes on with what comes next.
    """
    try:
        yield
    except RuntimeError:
        kept.clear()
        raise


def to_device(batch: Batch, module: nn.Module) -> Batch:
    """Return the batch on the device of the model's parameters."""
    device = next(module.parameters()).device
    return utils.move_to_cuda(batch, device) if device.type == "cuda" else batch


def add_gradients(parameters: Sequence[nn.Parameter], grads: Sequence[Tensor]) -> None:
    """Add to the gradients that the optimizer is about to use."""
    for parameter, grad in zip(parameters, grads, strict=True):
        parameter.grad = grad if parameter.grad is None else parameter.grad + grad


def sum_over_workers(tensor: Tensor) -> Tensor:
    """Add the tensors of all workers, in place."""
    if torch.distributed.is_initialized():
        distributed_utils.all_reduce(tensor, group=distributed_utils.get_data_parallel_group())
    return tensor


class JointStrategy(AlphaStrategy):
    """Every update moves both levels, by one batch of all training data."""

    def train_step(
        self, train_step, sample, model, criterion, optimizer, update_num, ignore_grad
    ) -> StepResult:
        """Train both levels; before ``--arch-start``, the weights alone."""
        levels = LEVELS if update_num >= self.arch_start else (WEIGHTS,)
        with self.passing(levels, model, optimizer, update_num):
            return train_step(sample, model, criterion, optimizer, update_num, ignore_grad)
