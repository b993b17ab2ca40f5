"""The extensions in docs/extending, from the search to the trained model."""

from pathlib import Path

import pytest
import torch
from helpers.attempts import attempt, attempt_alone
from helpers.fairseq_commands import DERIVED, SAMPLING, SEARCH, start, train
from helpers.plugins import EXTENDING, TRIAL, derived, registered

from fairseq_dartsformer import operations
from fairseq_dartsformer.cli import plot
from fairseq_dartsformer.plots.style import LOOKS
from fairseq_dartsformer.search import registry as strategies
from fairseq_dartsformer.search_space.genotype import Genotype

CANDIDATES = {stack: "average,conv_3,zero" for stack in ("encoder", "decoder")}


@pytest.fixture(scope="module", autouse=True)
def plugin():
    with registered(EXTENDING) as module:
        yield module


def translations(data, folder: Path, *options: str) -> list[str]:
    """The test set's translations by the model in a folder."""
    checkpoint = str(folder / "checkpoints" / "checkpoint_last.pt")
    options = [*options, *"--cpu --batch-size 10 --beam 2 --gen-subset test".split()]
    options += "--required-batch-size-multiple 1".split()
    arguments = [str(data), "--user-dir", EXTENDING, "--path", checkpoint, *options]
    run = start("generate", arguments, folder / "generate").wait()
    assert run.status == 0, run.stderr
    return [line for line in run.stdout.splitlines() if line.startswith("H-")]


def test_operation_from_search_to_translation(data, tmp_path):
    candidates = [f"--{stack}-operations={names}" for stack, names in CANDIDATES.items()]
    train(SEARCH, data, tmp_path / "search", *candidates, *TRIAL)
    checkpoint = tmp_path / "search" / "checkpoints" / "checkpoint_last.pt"
    command = [str(checkpoint), *"--exclude conv_3,zero -o".split(), f"{tmp_path}/genotype.json"]
    without = attempt_alone("derive", *command)
    assert "--encoder-operations names 'average'; it may name conv_3, " in without.stderr
    assert without.stderr.endswith(", or what a plugin registers (--user-dir)\n")
    assert attempt("derive", *command, "--user-dir", EXTENDING).status == 0
    genotype = Genotype.load(tmp_path / "genotype.json")
    assert genotype == Genotype(
        [["average"] * 2] * 2, [["average", "average", "cross_attention"]] * 2
    )

    figure = tmp_path / "figure.svg"
    plot.main(plot.get_parser().parse_args([str(checkpoint.parent), "-o", str(figure)]))
    assert LOOKS["average"].color in figure.read_text()

    options = ["--genotype", str(tmp_path / "genotype.json"), *TRIAL]
    train(DERIVED, data, tmp_path / "derived", *options)
    (tmp_path / "genotype.json").unlink()
    assert len(translations(data, tmp_path / "derived")) == 50


def test_workers_of_the_evolution_know_the_operation(data, tmp_path):
    candidates = [f"--{stack}-operations=average,ffn" for stack in CANDIDATES]
    train(SAMPLING, data, tmp_path, *candidates, *TRIAL)
    checkpoint = tmp_path / "checkpoints" / "checkpoint_last.pt"
    command = [str(checkpoint), str(data)]
    command += ["-o", str(tmp_path / "genotype.json"), "--user-dir", EXTENDING, "--workers", "2"]
    command += "--cpu --generations 1 --population 4 --mutations 1 --crossovers 1".split()
    outcome = attempt_alone("evolve", *command)
    assert outcome.status == 0, outcome
    scored = (tmp_path / "genotype.jsonl").read_text().splitlines()[1:]
    assert len(scored) == 4 and any("average" in line for line in scored)


def test_names_are_taken_once():
    with pytest.raises(ValueError, match="already an operation 'average'"):
        operations.register_operation("average")
    with pytest.raises(TypeError, match=r"write @register_operation\(\"NAME\"\)"):

        @operations.register_operation
        class Unnamed(torch.nn.Module):
            pass

    with pytest.raises(ValueError, match="'a,b'"):
        operations.register_operation("a,b")
    with pytest.raises(ValueError, match="'darts' is registered already"):
        strategies.register_strategy(strategies.STRATEGIES["darts"])


def test_decoders_operation_is_none_of_the_encoders(monkeypatch):
    names = {stack: list(of) for stack, of in operations.OPERATIONS_BY_STACK.items()}
    monkeypatch.setattr(operations, "OPERATIONS_BY_STACK", names)
    monkeypatch.setattr(operations, "OPERATIONS", dict(operations.OPERATIONS))
    operations.register_operation("mine", decoder_only=True)(torch.nn.Module)
    assert "mine" in names["decoder"] and "mine" not in names["encoder"]


def test_task_from_search_to_translation(data, tmp_path):
    train([*SEARCH, "--task", "repair_search"], data, tmp_path / "search", *TRIAL)
    genotype = str(derived(tmp_path / "search"))
    kind = [*DERIVED, *"--task repair --shuffle 4 --drop 0.2".split()]
    train(kind, data, tmp_path / "derived", "--genotype", genotype, *TRIAL)
    found = translations(data, tmp_path / "derived", *"--task repair --drop 0.2".split())
    assert len(found) == 50
