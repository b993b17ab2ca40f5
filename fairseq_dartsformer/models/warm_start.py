"""Warm start: a derived model begins with its supernet's weights (``--init-from-search``)."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fairseq import utils
from fairseq.data import Dictionary
from fairseq.models import ARCH_MODEL_NAME_REGISTRY
from omegaconf import DictConfig
from torch import Tensor, nn

from ..errors import InputError, flag
from ..search_space.families import Family
from ..search_space.genotype import Genotype
from .checkpoint_checks import DEFINING, WORDS, options_of
from .option_checks import parse_operations

logger = logging.getLogger(__name__)

# The only operation of a node of a derived model: stack, layer, node, parameter.
OPERATION = re.compile(r"(\w+)\.stack\.layers\.(\d+)\.nodes\.(\d+)\.0\.(.+)")


@dataclass(frozen=True)
class SupernetNames:
    """Which parameter of a supernet is which of a derived model.

    Attributes:
        family: of both.
        candidates: the supernet's, by stack.
    """

    family: Family
    candidates: Mapping[str, Sequence[str]]

    def of(self, name: str, genotype: Genotype) -> str:
        """The supernet's name of the parameter ``name`` of the model derived by ``genotype``."""
        match = OPERATION.fullmatch(name)
        if match is None:
            return name
        stack, layer, node, parameter = match[1], int(match[2]), int(match[3]), match[4]
        block = getattr(genotype, stack)
        if self.family.is_fixed(stack, node, len(block[0])):
            return name
        chosen = self.candidates[stack].index(block[layer % len(block)][node])
        return f"{stack}.stack.layers.{layer}.nodes.{node}.{chosen}.{parameter}"


class Supernet:
    """A search's options and tensors.

    Args:
        state: its checkpoint.
        family: the expected one.

    Raises:
        InputError: it is of another family, or not of a search.
    """

    def __init__(self, state: Mapping[str, Any], family: Family):
        self.family = family
        self.cfg = options_of(state["cfg"]["model"])
        self.task = options_of(state["cfg"].get("task") or {})
        self.tensors: dict[str, Tensor] = state["model"]
        self.updates = int(state["optimizer_history"][-1]["num_updates"])
        name = str(self.cfg.get("_name"))
        if ARCH_MODEL_NAME_REGISTRY.get(name, name) != family.supernet:
            raise InputError(
                f"is a checkpoint of {name}, it must be of {family.supernet}, from which "
                f"{family.name} is derived"
            )
        self.candidates = {
            stack: parse_operations(self.cfg.get(f"{stack}_operations"), stack, family)
            for stack in family.stacks
        }

    def weights_for(self, model: nn.Module, cfg: DictConfig, path: str) -> dict[str, Tensor]:
        """Return the weights of a derived model with options ``cfg``, and log what they are."""
        genotype = Genotype.load(cfg.genotype)
        self._check_options(cfg)
        self._check_space(genotype)
        weights, names = {}, SupernetNames(self.family, self.candidates)
        for name, own in model.state_dict().items():
            tensor = self.tensors.get(names.of(name, genotype))
            if not isinstance(tensor, Tensor) or tensor.shape != own.shape:
                raise InputError(_mismatch(name, own, tensor))
            weights[name] = tensor
        for stack in self.family.stacks:
            self._check_dictionary(stack, getattr(model, stack).dictionary)
        pruned = list(self._pruned(genotype))
        if pruned:
            logger.warning(
                f"the search had pruned {', '.join(pruned)}: these weights are as they were then"
            )
        numbers = sum(p.numel() for p in model.parameters())
        logger.info(
            f"begins with the weights of {path} after {self.updates} updates: {len(weights)} "
            f"tensors, {numbers:,} parameters; none is newly initialised"
        )
        return weights

    def _check_options(self, cfg: DictConfig) -> None:
        """Raise an :class:`InputError` if the networks differ besides their operations."""
        for name in DEFINING:
            now, then = cfg.get(name), self.cfg.get(name)
            differs = None not in (now, then) and str(now) != str(then)
            if differs and name != "search_layers":  # of which a genotype's block is a divisor
                raise InputError(f"{flag(name)} is {now}, it must be {then} as in the search")

    def _check_space(self, genotype: Genotype) -> None:
        """Raise an :class:`InputError` if the genotype is not in the space of the search."""
        expected = {"norm": self.cfg.get("operation_norm", "post")}  # none in version 0.1
        if self.family.pooled:
            splits = self.family.nodes_of(self.cfg)
            if None in splits.values():
                raise ValueError("has no number of splits")
            expected |= {f"{stack}_splits": n for stack, n in splits.items()}
            expected["pooling"] = self.cfg.get("pooling")
        for name, then in expected.items():
            now = getattr(genotype, name)
            if str(now) != str(then):
                words = name.replace("_", " ")
                raise InputError(
                    f"--genotype has {words} {now}, it must be {then} as in the search"
                )
        layers = self.cfg["search_layers"]
        for stack, candidates in self.candidates.items():
            block = getattr(genotype, stack)
            if layers % len(block):
                raise InputError(
                    f"--genotype has a block of {len(block)} layers in the {stack}, which must "
                    f"divide the search's {layers} (--search-layers)"
                )
            for i, layer in enumerate(block):
                for k, name in enumerate(layer):
                    fixed = self.family.is_fixed(stack, k, len(layer))
                    if not fixed and name not in candidates:
                        raise InputError(
                            f"--genotype has {name} in {stack}[{i}][{k}], the candidates of the "
                            f"search ({flag(f'{stack}_operations')}) are {', '.join(candidates)}"
                        )

    def _pruned(self, genotype: Genotype) -> Iterator[str]:
        """Yield the genotype's operations that the search no longer trained, with their places."""
        for stack, candidates in self.candidates.items():
            remaining = self.tensors.get(f"{stack}.remaining")
            if remaining is None:
                continue
            block = getattr(genotype, stack)
            for i, rows in enumerate(remaining.tolist()):
                places = self.family.with_fixed(stack, rows, None)
                for k, (row, name) in enumerate(zip(places, block[i % len(block)], strict=True)):
                    if row is not None and not row[candidates.index(name)]:
                        yield f"{name} in {stack}[{i}][{k}]"

    def _check_dictionary(self, stack: str, dictionary: Dictionary) -> None:
        """Raise an :class:`InputError` if the search's data still exist and have other words."""
        name = "dict.txt"  # of a language model
        if "encoder" in self.family.stacks:
            language = self.task.get("source_lang" if stack == "encoder" else "target_lang")
            name = f"dict.{language}.txt"
        path = Path(utils.split_paths(str(self.task.get("data")))[0], name)
        try:
            same = Dictionary.load(str(path)) == dictionary
        except Exception:  # fairseq raises several kinds
            logger.info(f"{path} cannot be read: only the dictionaries' sizes were compared")
            return
        if not same:
            raise InputError(
                f"the {stack}'s dictionary differs from the search's, {path}: words must have the "
                "same numbers, so use the search's data or their dictionary (--srcdict)"
            )


def _mismatch(name: str, own: Tensor, found: Any) -> str:
    """Words for a parameter that the supernet does not have in this shape."""
    if name.endswith(WORDS) and isinstance(found, Tensor) and found.dim() == 2:
        return (
            f"the search's dictionary has {len(found)} words, the data's has {len(own)} ({name}): "
            "it must be the same dictionary"
        )
    shape = tuple(found.shape) if isinstance(found, Tensor) else "missing"
    return f"{name} is {shape}: expected {tuple(own.shape)}"
