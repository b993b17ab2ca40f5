"""Times of translations by the architectures of a supernet.

Every pass of the encoder and every step of the decoder is timed for itself, and the least of its
times over all rounds counts: what else runs on the machine can only add to it. A round runs all
architectures, in random order.
"""

from __future__ import annotations

import platform
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from fairseq.models import ARCH_MODEL_REGISTRY
from omegaconf import DictConfig

from ..errors import InputError
from ..memory.planner import Training
from ..models.option_checks import parse_operations
from ..search.snapshot import take_snapshot
from ..search_space.genotype import Genotype
from ..search_space.latency_table import LatencyTable, network_of
from ..search_space.sampling import Choice, chosen, draw

NOTHING = "zero"  # adds nothing to the fixed part of the time
ROUNDS_OF_CANDIDATES = 4  # in the architectures to which a table is fitted
PASSES = 2  # in a row by one architecture; the first finds the caches filled by another

# By stack, milliseconds.
Times = Mapping[str, float]


@dataclass(frozen=True)
class Translation:
    """The batch whose translation is timed, see :class:`.latency_table.LatencyTable`."""

    sentences: int = 1
    beam: int = 5
    length: int = 20


class Bench:
    """A supernet in evaluation mode, and the times of its architectures.

    Args:
        cfg: fairseq's configuration of a search.
        vocabulary: symbols of the joint dictionary.
        translation: what is timed.

    Raises:
        InputError: the model is no supernet, its options do not fit together, or it is too short
            for the sentences.
    """

    def __init__(self, cfg: DictConfig, vocabulary: int, translation: Translation):
        if cfg.common.amp:
            raise InputError("--amp: is for training: translations take --fp16, --bf16 or neither")
        if "search_layers" not in cfg.model or "genotype" in cfg.model:
            raise InputError(f"--arch is {cfg.model._name}, it must be a supernet")
        family = ARCH_MODEL_REGISTRY[cfg.model._name].FAMILY
        for stack in family.stacks:
            option = f"{stack}_operations"
            names = parse_operations(cfg.model[option], stack, family)
            if NOTHING not in names:
                cfg.model[option] = ",".join([*names, NOTHING])
        self.cfg, self.translation = cfg, translation
        gpu = torch.cuda.is_available() and not cfg.common.cpu
        self.device = torch.device("cuda" if gpu else "cpu")
        torch.manual_seed(cfg.common.seed)
        training = Training(cfg, vocabulary)
        self.model = training.model.to(self.device).eval()
        longest = int(np.min(self.model.max_positions()))
        if translation.length > longest:
            raise InputError(
                f"--length is {translation.length}, it must be at most {longest}, the longest input"
            )
        self.vocabulary = len(training.task.target_dictionary)
        self.snapshot = take_snapshot(
            cfg.model, cfg.task, self.model.state_dict(), 0, "the supernet"
        )
        shape = (translation.sentences, translation.length)
        self.tokens = torch.randint(4, self.vocabulary, shape, device=self.device)

    def balanced(self) -> list[Choice]:
        """Draw architectures in which every node has each of its candidates equally often."""
        generator, found = random.Random(self.cfg.common.seed), []
        nodes = [
            (node, len(self.snapshot.candidates[node.stack])) for node in self.snapshot.nodes()
        ]
        for _ in range(ROUNDS_OF_CANDIDATES):
            orders = {node: generator.sample(range(count), count) for node, count in nodes}
            for i in range(max(count for _, count in nodes)):
                candidates = {node: order[i % len(order)] for node, order in orders.items()}
                found.append(self.snapshot.choice(candidates))
        return found

    def random(self, count: int) -> dict[Genotype, Choice]:
        """Draw different architectures, every node uniformly."""
        generator, found = random.Random(self.cfg.common.seed + 1), {}
        for _ in range(100 * count):
            choice = draw(self.model, generator)
            found[self.snapshot.genotype(choice)] = choice
            if len(found) == count:
                return found
        raise InputError(
            f"--check is {count}, but the search space has only {len(found)} genotypes"
        )

    def measure(self, choices: Sequence[Choice], rounds: int) -> Iterator[list[Times]]:
        """Measure all architectures in every round, and yield their least times so far."""
        shuffler = random.Random(0)
        encoder = hasattr(self.model, "encoder")
        least = np.full((len(choices), encoder + self.translation.length), np.inf)
        for _ in range(rounds):
            for i in shuffler.sample(range(len(choices)), len(choices)):
                with chosen(self.model, choices[i]):
                    for _ in range(PASSES):
                        least[i] = np.minimum(least[i], self.translate())
            parts = np.split(1e3 * least, [encoder], axis=1)  # pass of the encoder, steps
            sums = {
                stack: parts[stack == "decoder"].sum(1) for stack in self.snapshot.family.stacks
            }
            yield [
                {stack: float(times[i]) for stack, times in sums.items()}
                for i in range(len(choices))
            ]

    @torch.no_grad()
    def translate(self) -> list[float]:
        """Return the seconds of the encoder, if there is one, and of each step."""
        seconds, model, tokens = [], self.model, self.tokens

        def timed(run: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
            self.synchronize()
            start = time.perf_counter()
            out = run(*arguments, **options)
            self.synchronize()
            seconds.append(time.perf_counter() - start)
            return out

        order = torch.arange(len(tokens), device=tokens.device)
        order, encoder_out = order.repeat_interleave(self.translation.beam), None
        if hasattr(model, "encoder"):
            encoder_out = timed(model.encoder, tokens)
            encoder_out = model.encoder.reorder_encoder_out(encoder_out, order)
        rows, state = tokens.index_select(0, order), {}
        for step in range(1, rows.size(1) + 1):
            timed(model.decoder, rows[:, :step], encoder_out, incremental_state=state)
        return seconds

    def synchronize(self) -> None:
        """Wait for the GPU, if there is one."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    @property
    def conditions(self) -> dict[str, Any]:
        """The fields of a table that say what is measured, and where."""
        precision = next((p for p in ("fp16", "bf16") if self.cfg.common[p]), "float32")
        return {
            "device": self.describe(),
            "precision": precision,
            **asdict(self.translation),
            "vocabulary": self.vocabulary,
            "network": network_of(self.cfg.model, self.snapshot.family.name),
        }

    def compare(self, table: LatencyTable) -> None:
        """Raise an :class:`InputError` if a table is of another device, batch or network."""
        conditions = self.conditions
        table.check(conditions["network"], self.vocabulary)
        for name in ("device", "precision", *asdict(self.translation)):
            if getattr(table, name) != conditions[name]:
                raise InputError(
                    f"latency table {table.path}: {name} is {getattr(table, name)}, but here it is "
                    f"{conditions[name]}: measure a table here"
                )
        for stack, names in self.snapshot.candidates.items():
            table.costs(stack, names, len(self.snapshot.alpha[stack]))

    def table(self, choices: Sequence[Choice], times: Sequence[Times]) -> LatencyTable:
        """Fit a table to the times of architectures by least squares."""
        fixed, operations = {}, {}
        for stack, names in self.snapshot.candidates.items():
            repeats = self.cfg.model[f"{stack}_layers"] // len(self.snapshot.alpha[stack])
            counts = [np.bincount(np.ravel(c[stack]), minlength=len(names)) for c in choices]
            counts = repeats * np.array(counts, dtype=float)
            counts[:, names.index(NOTHING)] = 1  # adds nothing; its column is the fixed part
            found, *_ = np.linalg.lstsq(counts, np.array([t[stack] for t in times]))
            operations[stack] = dict(zip(names, map(float, found.round(6)), strict=True))
            fixed[stack], operations[stack][NOTHING] = operations[stack][NOTHING], 0.0
        return LatencyTable(**self.conditions, fixed=fixed, operations=operations)

    def describe(self) -> str:
        """One line: GPU, or processor and threads; torch."""
        if self.device.type == "cuda":
            name = torch.cuda.get_device_name(self.device)
        else:
            name = f"{processor()}, {torch.get_num_threads()} threads"
        return f"{name}, torch {torch.__version__}"


def processor() -> str:
    """Return the name of the processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(": ")[1] for line in lines if line.startswith("model name")), "?")
