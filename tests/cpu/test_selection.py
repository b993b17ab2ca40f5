"""`dartsformer-derive`: selection by perturbation, and the score on the checkpoint's supernet."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from helpers.attempts import attempt, contents
from helpers.fairseq_commands import DARTS, SAMPLING, SEARCH, TEXT_SEARCH, train

from fairseq_dartsformer.cli import derive as command
from fairseq_dartsformer.evolution.perturbation import Perturbation, PerturbationConfig
from fairseq_dartsformer.evolution.scoring import ScoreConfig, Scorer
from fairseq_dartsformer.search.snapshot import derive
from fairseq_dartsformer.search_space.alpha import is_alpha
from fairseq_dartsformer.search_space.genotype import Genotype
from fairseq_dartsformer.search_space.sampling import parameters_not_chosen, searched_stacks

PRUNED = "--search-strategy drnas --prune-at 2 --prune-keep 0.6 --max-update 6".split()
USEFUL = "--search-strategy single_level --max-update 100".split()
USEFUL += "--encoder-operations zero,conv_3 --decoder-operations zero,conv_3".split()
KINDS = {
    "dartsformer": [*SEARCH, "--max-update", "12", "--derive-exclude", "identity"],
    "darts_transformer": [*DARTS, "--max-update", "12"],
    "pruned dartsformer": [*SEARCH, *PRUNED],
    "pruned darts_transformer": [*DARTS, *PRUNED],
    "trained darts_transformer": [*DARTS, *USEFUL],
    "text": [*TEXT_SEARCH, "--max-update", "12"],
    "sampling": [*SAMPLING, "--max-update", "1"],
}
SEARCHES = list(KINDS)[:4]


@pytest.fixture(scope="module")
def search(data, tmp_path_factory) -> Callable[[str], str]:
    """Gives the checkpoint of a search of some kind."""
    folder, found = tmp_path_factory.mktemp("search"), {}

    def checkpoint(kind: str) -> str:
        if kind not in found:
            train(KINDS[kind], data, folder / kind, "--disable-validation")
            found[kind] = str(folder / kind / "checkpoints" / "checkpoint_last.pt")
        return found[kind]

    return checkpoint


def select(checkpoint: str, data: Path, exclude=None, **settings) -> Perturbation:
    """A finished selection."""
    scorer = Scorer(ScoreConfig(checkpoint, str(data), max_tokens=200))
    selection = Perturbation(scorer, exclude, PerturbationConfig(**settings))
    assert len(list(selection.run())) == selection.validations
    return selection


def run(*arguments) -> None:
    command.main(command.get_parser().parse_args([*map(str, arguments), "--cpu"]))


# -- selection


def test_the_useful_candidate_is_kept(search, data, tmp_path):
    """Though alpha says that the other is better."""
    state = torch.load(search("trained darts_transformer"), weights_only=False)
    for stack in ("encoder", "decoder"):
        state["model"][f"{stack}.alpha"][:] = torch.tensor([0.1, 0.0])
    torch.save(state, tmp_path / "search.pt")
    selection = select(str(tmp_path / "search.pt"), data, tune_updates=20, tune_lr=1e-3)
    found = selection.genotype
    kept = {getattr(found, n.stack)[n.layer][n.place] for n in selection.losses}
    assert kept == {"conv_3"}
    assert set(selection.scorer.snapshot.best.values()) == {"zero"}


@pytest.mark.parametrize(
    ("kind", "exclude"),
    [
        *((kind, None) for kind in [*SEARCHES, "text"]),
        *((kind, ("conv_3", "self_attention")) for kind in SEARCHES[::3]),
    ],
)
def test_losses_are_those_of_weights_of_zero(search, data, kind, exclude):
    """The others keep theirs, and a node that is done has a single weight, 1."""
    selection = select(search(kind), data, exclude)
    scorer, snapshot = selection.scorer, selection.scorer.snapshot
    weights = {stack: w.clone() for stack, w in snapshot.weights.items()}
    genotype = selection.genotype
    for node, losses in selection.losses.items():
        names, row = snapshot.candidates[node.stack], weights[node.stack][node.layer, node.row]
        remaining = snapshot.scores(node.stack)[node.layer, node.row].isfinite().tolist()
        excluded = snapshot.exclude if exclude is None else exclude
        allowed = [n for n, r in zip(names, remaining, strict=True) if r and n not in excluded]
        assert list(losses) == (allowed if len(allowed) > 1 else [])
        for name, loss in losses.items():
            before = row.clone()
            row[names.index(name)] = 0
            assert scorer.score_mixtures(weights) == pytest.approx(loss, rel=1e-6)
            row[:] = before
        kept = getattr(genotype, node.stack)[node.layer][node.place]
        assert kept == (max(losses, key=losses.__getitem__) if losses else allowed[0])
        row.zero_()[names.index(kept)] = 1
    # After the last node, the supernet is the derived model.
    score = scorer.score(scorer.architecture(genotype))
    assert scorer.score_mixtures(weights) == pytest.approx(score, rel=1e-6)


def test_the_seed_orders_the_nodes(search, data):
    scorer = Scorer(ScoreConfig(search("dartsformer"), str(data)))
    orders = [
        list(Perturbation(scorer, cfg=PerturbationConfig(seed)).candidates) for seed in (1, 1, 2)
    ]
    assert orders[0] == orders[1] != orders[2]
    assert set(orders[0]) == set(orders[2]) == set(scorer.nodes)


@pytest.mark.parametrize("kind", SEARCHES[1:3])
def test_tuning_repeats_itself_and_moves_the_weights_that_run(search, data, kind):
    """Each time as if it were the first, whatever was drawn before."""
    first, again, other, untuned = (
        select(search(kind), data, seed=seed, tune_updates=updates, tune_lr=1e-2)
        for seed, updates in ((1, 3), (1, 3), (2, 3), (1, 0))
    )
    assert first.losses == again.losses
    assert first.losses != other.losses
    node, *others = first.losses
    assert first.losses[node] == untuned.losses[node]
    assert all(first.losses[n] != untuned.losses[n] for n in others if first.losses[n])

    model, before = first.scorer.model, untuned.scorer.model.state_dict()
    moved = {p for name, p in model.named_parameters() if not torch.equal(p, before[name])}
    mixtures = {s: coder.mix(coder.mixing_weights()) for s, coder in searched_stacks(model).items()}
    pruned = {*parameters_not_chosen(model, mixtures)}
    assert moved and not moved & pruned and not any(map(is_alpha, moved))
    assert bool(pruned) == kind.startswith("pruned")


# -- the command


@pytest.mark.parametrize("kind", SEARCHES[::3])
def test_score_is_the_scorers(search, data, tmp_path, capsys, kind):
    """With the checkpoint's own weights, by whatever selection."""
    checkpoint, files = search(kind), [tmp_path / "argmax.json", tmp_path / "perturbation.json"]
    options = ["--score", data, "--valid-subset", "test", "--max-tokens", 150]
    tuned = ["--selection", "perturbation", "--data", data, "--tune-updates", 2, "--tune-lr", 0.1]
    printed = []
    for file, selection in zip(files, ([], tuned), strict=True):
        run(checkpoint, "-o", file, *options, *selection)
        printed.append(capsys.readouterr().out)
    scorer = Scorer(ScoreConfig(checkpoint, str(data), "test", 150))
    for file, text in zip(files, printed, strict=True):
        score = scorer.score(scorer.architecture(Genotype.load(str(file))))
        assert f"\n{checkpoint}: loss {score:.4f} on test\n" in text
    assert Genotype.load(str(files[0])) == derive(scorer.snapshot)


def test_several_checkpoints(search, data, tmp_path, capsys, monkeypatch):
    """Each as if it were the only one; the report has the losses."""
    monkeypatch.setattr(command, "SCORES_A_LINE", 10)
    first, second = tmp_path / "1.pt", tmp_path / "2.pt"
    for path in (first, second):
        path.write_bytes(Path(search("dartsformer")).read_bytes())
    options = ["--data", data, "--max-tokens", 200, "--seed", 3, "--tune-updates", 1]
    run(first, second, "-o", tmp_path / "out", "--selection", "perturbation", *options)
    selection = select(str(first), data, seed=3, tune_updates=1)
    for path in (first, second):
        assert Genotype.load(str(tmp_path / f"out/{path.stem}.json")) == selection.genotype
    captured = capsys.readouterr()
    assert re.findall(r": (\d+) of \d+ scored", captured.err) == ["10", "20", "30"] * 2
    snapshot = selection.scorer.snapshot
    for node, losses in selection.losses.items():
        (best, most), (_, second_most), *_ = sorted(losses.items(), key=lambda pair: -pair[1])
        title = f"{snapshot.name(node)}: {best}, margin {most - second_most:.6f} bits, entropy"
        assert captured.out.count(title) == 2
        for name, loss in losses.items():
            weight = dict(snapshot.ranked(node))[name]
            assert f"  {weight:.6f} {name}, loss without it {loss:.6f}\n" in captured.out
    assert "identity (excluded)\n" in captured.out


PERTURBATION = "{search} -o x --selection perturbation"


@pytest.mark.parametrize(
    ("arguments", "pattern"),
    [
        (PERTURBATION, "^--selection perturbation needs --data"),
        ("{search} -o x --selection random", "--selection: invalid choice: 'random'"),
        ("{sampling} -o x --selection perturbation --data {data}", "by uniform_sampling, which"),
        ("{sampling} -o x --score {data}", "by uniform_sampling, which does not learn alpha"),
        ("{search} -o x --data {data}", "^--data is .*: it is an option of --selection perturb"),
        ("{search} -o x --seed 2", "^--seed is 2: it is an option of --selection perturbation"),
        ("{search} -o x --tune-updates 2", "^--tune-updates is 2: it is an option of"),
        (f"{PERTURBATION} --data {{data}} --tune-updates=-1", "--tune-updates: is '-1', it must"),
        (f"{PERTURBATION} --data {{data}} --tune-lr nan", "--tune-lr: is 'nan', it must be above"),
        (f"{PERTURBATION} --data {{data}} --seed=-1", "--seed: is '-1', it must be a whole"),
        (f"{PERTURBATION} --data {{data}} --tune-updates 1 --fp16", "^--tune-updates is 1: tuning"),
        (f"{PERTURBATION} --data {{data}} --fp16", "^--fp16: there is no GPU"),
        (f"{PERTURBATION} --data no", "^no/dict.aa.txt: No such file"),
        (f"{PERTURBATION} --data {{data}} --score no", "^no/dict.aa.txt: No such file"),
        (f"{PERTURBATION} --data {{data}} --valid-subset y", "^--valid-subset is 'y', .* no such"),
        (f"{PERTURBATION} --data {{untuned}} --tune-updates 1", "^--tune-updates needs 'train', "),
        (
            f"{PERTURBATION} --data {{data}} --exclude conv_3,dynamic_conv_3,self_attention,ffn,"
            "identity",
            "^--exclude: leaves no candidate in a node of the encoder",
        ),
        (
            f"{PERTURBATION} --data {{data}} --tune-updates 9 --tune-lr 1e30",
            "the validation loss without .* is not finite, after 9 --tune-updates a node at "
            r"--tune-lr 1e\+30$",
        ),
        ("{search} -o x --score {data} --max-tokens 1", "^--max-tokens is 1, which every sentence"),
    ],
)
def test_refused(search, data, tmp_path, monkeypatch, arguments, pattern):
    monkeypatch.chdir(tmp_path)
    untuned = tmp_path / "untuned"
    untuned.mkdir()
    for file in data.glob("[!t]*"):  # no train, no test
        (untuned / file.name).write_bytes(file.read_bytes())
    given = {"search": search("dartsformer"), "sampling": search("sampling")}
    before = contents(tmp_path)
    line = attempt("derive", *arguments.format(data=data, untuned=untuned, **given).split()).line
    assert re.search(pattern.replace("^", "^(?:argument )?"), line), line
    assert contents(tmp_path) == before
