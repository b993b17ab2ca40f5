"""`dartsformer-evolve`: what it scores, that it goes on where it was stopped, what it refuses."""

import json
import math
import re
import signal
import time
from multiprocessing import get_context
from pathlib import Path
from random import Random

import pytest
import torch
from helpers.fairseq_commands import (
    DARTS,
    PLUGIN,
    SAMPLING,
    SAMPLING_DARTS,
    SEARCH,
    TEXT_DARTS,
    TEXT_SEARCH,
    start,
    train,
)
from helpers.latency_tables import DARTS_NETWORK, latency_table
from helpers.models import RATES, SIZES, inheriting
from omegaconf import OmegaConf, open_dict

from fairseq_dartsformer.cli import evolve as command
from fairseq_dartsformer.cli import plot
from fairseq_dartsformer.errors import InputError
from fairseq_dartsformer.evolution.population import Space
from fairseq_dartsformer.evolution.scoring import ScoreConfig, Scorer
from fairseq_dartsformer.fairseq_patches import load_checkpoint
from fairseq_dartsformer.search_space.genotype import Genotype

KINDS = {
    "sampling": SAMPLING,
    "sampling darts_transformer": SAMPLING_DARTS,
    "darts": SEARCH,
    "darts darts_transformer": DARTS,
    "darts text": TEXT_SEARCH,
    "darts darts_transformer text": TEXT_DARTS,
}
SHARED = "--share-all-embeddings"
SMALL = "--population 8 --parents 3 --mutations 3 --crossovers 3 --generations 3 --cpu".split()


# -- scores


@pytest.fixture(scope="module", params=KINDS)
def search(request, data, tmp_path_factory) -> tuple[str, str]:
    """A checkpoint and its data."""
    folder = tmp_path_factory.mktemp("search")
    sharing = "--share-decoder-input-output-embed" if "text" in request.param else SHARED
    options = f"--max-update 12 --disable-validation {sharing}".split()
    train(KINDS[request.param], data, folder, *options)
    return str(folder / "checkpoints" / "checkpoint_last.pt"), str(data)


@pytest.fixture(scope="module")
def one_search(data, tmp_path_factory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("search")
    train(SAMPLING, data, folder, "--max-update", "1", "--disable-validation")
    return folder / "checkpoints" / "checkpoint_last.pt", data


@torch.no_grad()
def test_score_and_parameters_are_the_derived_models(search):
    """With the supernet's weights; with several batches of different sizes."""
    scorer = Scorer(ScoreConfig(*search, max_tokens=60))
    assert len(scorer.batches) > 2
    space, generator = Space(*scorer.parameters()), Random(1)
    sizes = {"ffn_dim": 16} | dict.fromkeys(RATES, 0.0)
    if scorer.snapshot.family.stacks == ("decoder",):
        sizes |= {"share_decoder_input_output_embed": True}
    else:
        sizes |= {"share_all_embeddings": True}
        sizes |= dict.fromkeys(("max_source_positions", "max_target_positions"), 1024)
    scores = set()
    for _ in range(6):
        architecture = space.random(generator)
        genotype = scorer.snapshot.genotype(scorer.choice(architecture))
        derived = inheriting(scorer.model, scorer.snapshot, genotype, scorer.task, **sizes)
        assert space.count(architecture) == sum(p.numel() for p in derived.parameters())
        logs = [scorer.criterion(derived, batch)[-1] for batch in scorer.batches]
        loss = sum(log["loss"] for log in logs) / sum(log["sample_size"] for log in logs)
        score = scorer.score(architecture)
        assert score == pytest.approx(float(loss) / math.log(2), rel=1e-6)
        scores.add(score)
    assert len(scores) > 1


def test_bleu_is_that_of_the_derived_model_as_fairseq_generate_has_it(one_search, tmp_path):
    """With the supernet's weights, from a checkpoint of its own. Nothing is learnt yet, and the
    translations are long and differ."""
    search, data = map(str, one_search)
    cfg = ScoreConfig(search, data, score="bleu", beam=3, lenpen=0.7, max_tokens=60)
    scorer, generator = Scorer(cfg), Random(1)
    space = Space(*scorer.parameters())
    scores = {a: scorer.score(a) for a in (space.random(generator) for _ in range(4))}
    architecture = max(scores, key=scores.__getitem__)
    assert scores[architecture] > min(scores.values())

    genotype = scorer.snapshot.genotype(scorer.choice(architecture))
    state = load_checkpoint(search)
    sizes = {name: state["cfg"].model[name] for name in [*SIZES, "share_all_embeddings"]}
    derived = inheriting(scorer.model, scorer.snapshot, genotype, scorer.task, **sizes)
    state["model"] = derived.state_dict()
    with open_dict(state["cfg"]) as saved:
        saved.model._name, saved.task._name = genotype.family, "translation"
        saved.model.genotype = genotype.to_json()
    state["cfg"] = OmegaConf.to_container(state["cfg"], resolve=True, enum_to_str=True)
    torch.save(state, tmp_path / "derived.pt")
    arguments = [data, "--user-dir", PLUGIN, "--path", str(tmp_path / "derived.pt"), "--cpu"]
    arguments += "--gen-subset valid --scoring sacrebleu --beam 3 --lenpen 0.7 --quiet".split()
    arguments += "--max-len-a 1 --max-len-b 50 --required-batch-size-multiple 1".split()
    run = start("generate", arguments, tmp_path / "generate").wait()
    assert run.status == 0, run.stderr
    bleu = re.search(r"Generate valid with beam=3: BLEU = ([\d.]+)", run.stdout)[1]
    assert scores[architecture] == pytest.approx(float(bleu), abs=0.01)


# -- the command


def run(*arguments) -> None:
    command.main(command.get_parser().parse_args(list(map(str, arguments))))


@pytest.mark.parametrize("search", ["sampling"], indirect=True)
def test_killed_and_run_again(search, tmp_path, capsys):
    """To the same end, byte for byte, with whatever number of workers."""
    whole, killed = tmp_path / "whole.json", tmp_path / "killed.json"
    run(*search, "-o", whole, *SMALL, "--workers", 1)
    best = Genotype.load(whole)
    history = whole.with_suffix(".jsonl").read_bytes()
    _, *records = map(json.loads, history.splitlines())
    assert [r["generation"] for r in records] == [1] * 8 + [2] * 8 + [3] * 8
    least = min(records, key=lambda record: record["loss"])
    assert Genotype.from_json(json.dumps(least["genotype"]), "") == best
    out = capsys.readouterr().out
    assert f"generation 3: 24 genotypes, best loss {least['loss']:.4f}" in out
    assert best.to_json() in out

    part = killed.with_suffix(".jsonl")
    kill_when(part, 12, *search, "-o", str(killed), *SMALL, "--workers", "2")
    lines = part.read_bytes()
    assert history.startswith(lines) and len(lines) < len(history)
    assert not killed.exists()
    with open(part, "ab") as file:
        file.write(b'{"generation": 2, "lo')
    run(*search, "-o", killed, *SMALL, "--workers", 1)
    assert part.read_bytes() == history
    assert killed.read_bytes() == whole.read_bytes()

    # It may go on for longer, and scores nothing twice.
    run(*search, "-o", killed, *SMALL, "--workers", 1, "--generations", 4)
    assert part.read_bytes().startswith(history)
    genotypes = [json.dumps(json.loads(r)["genotype"]) for r in part.read_text().splitlines()[1:]]
    assert len(set(genotypes)) == len(genotypes) == 32


def kill_when(history: Path, lines: int, *arguments: str) -> None:
    """Run the command, and SIGKILL it when its history has so many lines."""
    process = get_context("forkserver").Process(target=run, args=arguments)
    process.start()
    try:
        end = time.monotonic() + 120
        while not history.exists() or history.read_bytes().count(b"\n") < lines:
            assert process.is_alive() and time.monotonic() < end
            time.sleep(0.001)
    finally:
        process.kill()
    process.join()
    assert process.exitcode == -signal.SIGKILL


@pytest.mark.parametrize("search", ["sampling darts_transformer"], indirect=True)
def test_limit_and_bleu(search, data, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(command, "SCORES_A_LINE", 3)
    output = tmp_path / "genotype.json"
    scorer = Scorer(ScoreConfig(*search))
    space = Space(*scorer.parameters())
    sizes = sorted(space.count(space.random(Random(i))) for i in range(50))
    table = latency_table(DARTS_NETWORK)
    (tmp_path / "table.json").write_text(table.to_json())
    options = [*SMALL, "--workers", 1, "--max-parameters", f"{sizes[10] / 1000}K"]
    options += ["--max-latency", 15, "--latency-table", tmp_path / "table.json"]
    run(*search, "-o", output, *options, "--score", "bleu", "--beam", 2, "--generations", 2)
    _, *records = map(json.loads, output.with_suffix(".jsonl").read_text().splitlines())
    assert all(0 <= r["bleu"] <= 100 and r["parameters"] <= sizes[10] for r in records)
    genotypes = [Genotype.from_json(json.dumps(r["genotype"]), "") for r in records]
    latencies = [table.predict(genotype) for genotype in genotypes]
    assert max(latencies) <= 15 + 1e-6 and len(set(latencies)) > 5
    best = max(records, key=lambda record: record["bleu"])
    assert Genotype.from_json(json.dumps(best["genotype"]), "") == Genotype.load(output)
    shown = capsys.readouterr()
    assert f" parameters, {latencies[records.index(best)]:.3f}".rstrip("0") in shown.out
    # No bar where nobody is looking.
    assert re.findall(r"generation \d: .*", shown.err) == [
        f"generation {g}: {n} of 8 scored" for g in (1, 2) for n in (3, 6)
    ]

    figure = ["-o", str(tmp_path / "front.svg"), "--latency-table", str(tmp_path / "table.json")]
    history = str(output.with_suffix(".jsonl"))
    plot.main(plot.get_parser().parse_args([history, *figure]))
    assert "BLEU" in (tmp_path / "front.svg").read_text()

    (tmp_path / "table.json").write_text(latency_table(DARTS_NETWORK, beam=4).to_json())
    with pytest.raises(InputError, match="was begun with latency_table = "):
        run(*search, "-o", output, *options, "--score", "bleu", "--beam", 2, "--generations", 2)
