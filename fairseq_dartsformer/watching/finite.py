"""Where in a search a number is not finite."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from math import isfinite
from typing import Any

import torch
from torch import Tensor, nn

from ..families import FIXED_OPERATION
from ..search_result import SearchResult

# An operation, or something within it, as torch names it.
_BRANCH = re.compile(r"(encoder|decoder)\.stack\.layers\.(\d+)\.nodes\.(\d+)(?:\.(\d+))?")


class Places:
    """Names of a supernet's parts as users read them: stack, layer, split, operation.

    Args:
        model: the supernet.
        space: its search space.
    """

    def __init__(self, model: nn.Module, space: SearchResult):
        self.model, self.space = model, space

    def of(self, name: str) -> str:
        """The operation that a module or parameter belongs to, or its own name.

        Layers are counted in the stack, not in the block, since each has weights of its own.
        """
        found = _BRANCH.match(name)
        if found is None:
            return name
        stack, layer, node, branch = found[1], int(found[2]), int(found[3]), found[4]
        family = self.space.family
        place = f"{stack} layer {layer + 1} {family.node} {node + 1}"
        if branch is None:
            return place
        nodes = len(getattr(self.model, stack).stack.layers[layer].nodes)
        if family.is_fixed(stack, node, nodes):
            return f"{place}, {FIXED_OPERATION}"
        return f"{place}, {self.space.candidates[stack][int(branch)]}"

    def in_alpha(self, values: Mapping[str, Tensor]) -> list[tuple[str, str]]:
        """Every node and operation of which ``values``, shaped like alpha, are not finite."""
        return [
            (self.space.name(node), operation)
            for node in self.space.nodes()
            for operation, value in zip(
                self.space.candidates[node.stack],
                values[node.stack][node.layer, node.row].tolist(),
                strict=True,
            )
            if not isfinite(value)
        ]


def all_finite(model: nn.Module) -> bool:
    """Whether all of a model's parameters are."""
    return all(bool(p.isfinite().all()) for p in model.parameters())


def in_parameters(places: Places) -> str | None:
    """The first parameter that is not finite, if any; alpha before the weights."""
    model = places.model
    alpha = places.in_alpha({"encoder": model.encoder.alpha, "decoder": model.decoder.alpha})
    if alpha:
        return f"alpha of {', '.join(alpha[0])}"
    for name, parameter in model.named_parameters():
        if not parameter.isfinite().all():
            return f"a weight of {places.of(name)}"
    return None


def in_passes(places: Places, run: Callable[[], Any]) -> str | None:
    """What is the first that is not finite in forward and backward passes, if anything is.

    Args:
        places: of the model.
        run: makes the passes; leaves the gradients in the parameters.
    """
    with _first_output(places) as found:
        run()
    return found[0] if found else in_gradients(places)


@contextmanager
def _first_output(places: Places) -> Iterator[list[str]]:
    """Collects the first module whose output, or already its input, is not finite."""
    found: list[str] = []

    def hook_of(name: str):
        def hook(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
            if found:
                return
            for what, values in (("the input", inputs), ("the output", output)):
                if not _finite(values):
                    found.append(f"{what} of {places.of(name)}")
                    return

        return hook

    hooks = [
        module.register_forward_hook(hook_of(name))
        for name, module in places.model.named_modules()
        if name
    ]
    try:
        yield found
    finally:
        for hook in hooks:
            hook.remove()


def in_gradients(places: Places) -> str | None:
    """Where gradients cease to be finite on their way down, if they do.

    Parameters stand in the order of the forward pass, so the last of them without a finite gradient
    was the first to be reached. Of a node's operations one is named if the others are well.
    """
    poisoned = [
        (name, parameter.grad)
        for name, parameter in places.model.named_parameters()
        if parameter.grad is not None and not parameter.grad.isfinite().all()
    ]
    if not poisoned:
        return None
    last, _ = poisoned[-1]
    if last.endswith("alpha"):  # in an update of alpha, in which weights take no gradient
        of_alpha = {stack: torch.zeros_like(alpha) for stack, alpha in places.space.alpha.items()}
        of_alpha |= {name.removesuffix(".alpha"): gradient for name, gradient in poisoned}
        reached = places.in_alpha(of_alpha)
        node, operation = reached[-1]
        alone = [other for other, _ in reached].count(node) == 1
        return f"the gradient of alpha of {node}" + (f", {operation}" if alone else "")
    branch = _BRANCH.match(last)
    if branch is None:
        return f"the gradient of {last}"
    node = branch[0].rpartition(".")[0]
    others = {m[0] for m in (_BRANCH.match(name) for name, _ in poisoned) if m} - {branch[0]}
    alone = not any(other.rpartition(".")[0] == node for other in others)
    return f"the gradient of {places.of(branch[0] if alone else node)}"


def _finite(values: Any) -> bool:
    """Whether all floating point tensors are, within tuples, lists and dictionaries too."""
    if isinstance(values, Tensor):
        return not values.is_floating_point() or bool(values.isfinite().all())
    if isinstance(values, dict):
        return all(map(_finite, values.values()))
    if isinstance(values, tuple | list):
        return all(map(_finite, values))
    return True
