"""Measures a row of a table: search, genotype, training, translation, BLEU."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import torch
from commands import Step, StepError, alone, write
from data_set import Data
from matching import match, model_config
from sacremoses import MosesDetokenizer
from scales import Options, Scale, arguments
from tables import Row, Search

from fairseq_dartsformer.memory.planner import count_parameters
from fairseq_dartsformer.operations import DECODER_OPERATIONS, ENCODER_OPERATIONS
from fairseq_dartsformer.search_space.genotype import Genotype


@dataclass(frozen=True)
class Runner:
    """Runs rows.

    Attributes:
        scale: sizes and schedules.
        out: folder of all runs of this scale.
        search_data: data of the searches.
        data: training data by the number of the language pair; ``None`` if not given.
        search_updates, train_updates: override the scale.
    """

    scale: Scale
    out: Path
    search_data: Data
    data: Sequence[Data | None]
    search_updates: int | None = None
    train_updates: int | None = None

    def run(self, row: Row, seed: int) -> dict[str, Any]:
        """Return a row's measures, with the commands and their cost.

        Raises:
            StepError: a command failed.
            InputError: the scale's sizes do not fit the model.
        """
        result: dict[str, Any] = {"row": row.cells, "seed": seed}
        if (row.arch is None and row.search is None) or self.data[row.pair] is None:
            return result
        records, genotype = {}, None
        if row.search is not None:
            folder = self._folder("search", row.search.name, self.search_data, seed)
            with alone(folder):
                records, genotype = self._search(row, seed, folder)
        if row.random is not None:
            genotype = random_genotype(row.random).to_json()
        if row.arch is not None:
            folder = self._folder("train", row.name, self.data[row.pair], seed)
            with alone(folder):
                result |= self._train(row, seed, folder, genotype, records)
        if "search" in records:
            result["updates"] = self._updates(self._schedule(row.search), self.search_updates)
            names = ("search", "derive", "perturbation", "evolve")
            steps = [records[name] for name in names if name in records]
            # Without a GPU, processor time: other processes may share the machine.
            clock = "seconds" if torch.cuda.is_available() else "cpu_seconds"
            result["hidden size of search"] = self.scale.hidden_dim(
                row.search.arch, row.search.size
            )
            result["hours of search"] = sum(step[clock] for step in steps) / 3600
            result["peak memory of search"] = max(step["peak_bytes"] for step in steps)
        result["genotype"] = genotype
        result["steps"] = records
        return result

    def _folder(self, kind: str, name: str, data: Data, seed: int) -> Path:
        return (self.out / kind / f"{name}.{data.name}.seed{seed}").resolve()

    def _search(self, row: Row, seed: int, folder: Path) -> tuple[dict[str, Any], str]:
        """The records of the steps, and the genotype."""
        search, data = row.search, str(self.search_data.folder.resolve())
        checkpoint, genotype = folder / "checkpoint_last.pt", folder / "genotype.json"
        records = {
            "search": Step(folder, "search", *self.search_command(search, seed, folder)).run()
        }
        if row.perturbation:
            genotype = folder / "genotype-perturbation.json"
            given = [str(checkpoint), "-o", str(genotype), "--selection", "perturbation"]
            given += ["--data", data, "--seed", str(seed)]
            step = Step(folder, "perturbation", "fairseq_dartsformer.cli.derive", given)
        elif search.strategy == "darts":
            given = [str(checkpoint), "-o", str(genotype)]
            step = Step(folder, "derive", "fairseq_dartsformer.cli.derive", given)
        else:
            given = [str(checkpoint), data, "-o", str(genotype), "--seed", str(seed)]
            given += arguments(self.scale.evolve)
            step = Step(folder, "evolve", "fairseq_dartsformer.cli.evolve", given)
        # An existing file is the user's choice, for example of an earlier checkpoint.
        if step.path.exists() or not genotype.exists():
            records[step.name] = step.run()
        return records, Genotype.load(genotype).to_json()

    def search_command(self, search: Search, seed: int, folder: Path) -> tuple[str, list[str]]:
        """Module and arguments of a search."""
        options = {"arch": search.arch} | self.scale.sizes[search.arch][search.size]
        options |= self._schedule(search)
        if search.strategy != "darts":
            options = {k: v for k, v in options.items() if not k.startswith("arch_")}
            options |= {"optimizer": "adam", "search_strategy": search.strategy}
        options |= self._running(options, self.search_updates, self.scale.saves[0], None)
        options |= {"seed": seed, "save_dir": folder}
        given = [*self.search_data.arguments(), *arguments(options), *search.options.split()]
        return "fairseq_cli.train", given

    def train_command(
        self, row: Row, seed: int, folder: Path, genotype: Path | None, sizes: Options
    ) -> tuple[str, list[str]]:
        """Module and arguments of a training."""
        options = {"arch": row.arch} | sizes | {"genotype": genotype}
        options |= self.scale.train_options(row.size)
        keep = self.scale.average
        options |= self._running(options, self.train_updates, self.scale.saves[1], keep)
        options |= {"seed": seed, "save_dir": folder}
        return "fairseq_cli.train", [*self.data[row.pair].arguments(), *arguments(options)]

    def _schedule(self, search: Search) -> Options:
        sampling = {} if search.strategy == "darts" else self.scale.sampling
        return {**self.scale.search, **sampling}

    @staticmethod
    def _updates(options: Options, replaced: int | None) -> int:
        return replaced or options["max_update"]

    def _running(
        self, options: Options, replaced: int | None, saves: int, keep: int | None
    ) -> dict[str, Any]:
        """Options for the updates, GPUs, checkpoints and log."""
        updates = self._updates(options, replaced)
        there = max(1, torch.cuda.device_count())
        gpus = max(n for n in range(1, there + 1) if self.scale.workers % n == 0)
        return {
            "max_update": updates,
            "distributed_world_size": gpus,
            "update_freq": options["update_freq"] * self.scale.workers // gpus,
            "save_interval_updates": max(1, updates // saves),
            "keep_interval_updates": keep,
            "no_epoch_checkpoints": True,
            "log_format": "simple",
            "log_interval": max(1, min(100, updates // 5)),
        }

    def sizes(self, row: Row, genotype: str | None) -> tuple[dict[str, Any], int]:
        """The sizes of a row's model and its number of parameters, matched if the scale says so.

        Raises:
            InputError: no sizes give that number.
        """
        vocabulary, known = self.data[row.pair].vocabulary(), self.scale.sizes
        sizes = known[row.arch][row.size] | dict.fromkeys(row.flags, True)
        if self.scale.matched and row.arch != "transformer":
            model = model_config("transformer", known["transformer"][row.size], None)
            target = count_parameters(model, vocabulary)
            sizes = match(row.arch, sizes, genotype, vocabulary, target)
        return sizes, count_parameters(model_config(row.arch, sizes, genotype), vocabulary)

    def _train(
        self,
        row: Row,
        seed: int,
        folder: Path,
        genotype: str | None,
        records: dict[str, Any],
    ) -> dict[str, Any]:
        """Train and score; adds the steps' records to ``records``."""
        sizes, parameters = self._known_sizes(folder, row, genotype)
        path = None
        if genotype is not None:
            write(path := folder / "genotype.json", genotype)
        records["train"] = Step(
            folder, "train", *self.train_command(row, seed, folder, path, sizes)
        ).run()
        checkpoint = folder / "checkpoint_best.pt"
        if self.scale.average > 1:
            checkpoint = folder / "average.pt"
            given = ["--last", str(self.scale.average), str(folder), "-o", str(checkpoint)]
            step = Step(folder, "average", "fairseq_dartsformer.cli.average", given)
            records["average"] = step.run()
        data = self.data[row.pair]
        options = {"path": checkpoint, "gen_subset": "test", "results_path": folder}
        # With its default multiple of 8, fairseq would skip the last sentences.
        options |= {"required_batch_size_multiple": 1, "remove_bpe": True, **self.scale.generate}
        given = [*data.arguments(), *arguments(options)]
        records["generate"] = Step(folder, "generate", "fairseq_cli.generate", given).run()
        hypotheses = folder / "test.hypotheses"
        write(hypotheses, translations(folder / "generate-test.txt", data.languages[1]))
        given = [str(data.reference.resolve()), "--input", str(hypotheses), "--metrics", "bleu"]
        given += ["--confidence", "--format", "json"]
        step = Step(folder, "bleu", "sacrebleu", given, again=True)
        records["bleu"] = step.run()
        return {"parameters": parameters, **read_score(step.log.read_text())}

    def _known_sizes(
        self, folder: Path, row: Row, genotype: str | None
    ) -> tuple[dict[str, Any], int]:
        """:meth:`sizes`, computed once and stored."""
        path = folder / "sizes.json"
        if path.exists():
            known = json.loads(path.read_text())
            if known["genotype"] != genotype:
                raise StepError(f"{folder} is of another genotype: remove it")
            return known["sizes"], known["parameters"]
        sizes, parameters = self.sizes(row, genotype)
        record = {"genotype": genotype, "sizes": sizes, "parameters": parameters}
        write(path, json.dumps(record))
        return sizes, parameters


def random_genotype(seed: int, layers: int = 2) -> Genotype:
    """A genotype with operations drawn uniformly, splits 2 and 3, max pooling."""
    draw = Random(seed).choice
    encoder = [[draw(ENCODER_OPERATIONS) for _ in range(2)] for _ in range(layers)]
    decoder = [[draw(DECODER_OPERATIONS) for _ in range(2)] for _ in range(layers)]
    return Genotype(encoder, [[*layer, "cross_attention"] for layer in decoder])


def read_score(printed: str) -> dict[str, Any]:
    """The last score that ``sacrebleu --format json`` has printed."""
    score = json.loads(re.findall(r"\{[^{}]*\}", printed)[-1])
    confidence = score.get("confidence_var", 0.0)  # missing at a BLEU of 0
    return {"BLEU": score["score"], "confidence": confidence, "signature": score["signature"]}


def translations(path: Path, language: str) -> str:
    """The detokenised translations in fairseq's output, in test set order."""
    found = re.findall(r"^H-(\d+)\t[^\t]*\t(.*)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    detokenize = MosesDetokenizer(lang=language).detokenize
    return "\n".join(detokenize(text.split()) for _, text in sorted(found, key=lambda f: int(f[0])))
