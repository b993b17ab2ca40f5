"""Latency: its table, its prediction, its penalty in a search, and the command."""

import re
import sys
from functools import partial
from random import Random

import pytest
import torch
from helpers.fairseq_commands import SUPERNET, checkpoint, train
from helpers.latency_tables import DARTS_NETWORK, NETWORK, TINY, latency_table
from helpers.models import build_darts, build_search
from torch import Tensor

from fairseq_dartsformer.cli import latency as command
from fairseq_dartsformer.latency.measurement import NOTHING, Bench, Translation
from fairseq_dartsformer.memory.planner import training_config
from fairseq_dartsformer.models import DARTSformerSearchModel
from fairseq_dartsformer.search.penalties import LatencyDeviation
from fairseq_dartsformer.search.pruning import keep_best
from fairseq_dartsformer.search.snapshot import derive, snapshot_of
from fairseq_dartsformer.search_space.latency_table import LatencyTable
from fairseq_dartsformer.search_space.sampling import best, draw, searched_node, searched_stacks

ARCHS = {"dartsformer_search": NETWORK, "darts_transformer_search": DARTS_NETWORK}


def bench(arch: str, options: str = "", **translation: int) -> Bench:
    cfg = training_config(arch, [*TINY.split(), *options.split()])
    return Bench(cfg, 48, Translation(**translation))


# -- the table


@pytest.mark.parametrize("network", ARCHS.values())
def test_table_is_read_as_it_was_written(tmp_path, network):
    table = latency_table(network)
    (tmp_path / "table.json").write_text(table.to_json())
    assert LatencyTable.load(tmp_path / "table.json") == table


@pytest.mark.parametrize("search_layers", [1, 2])
@pytest.mark.parametrize("arch", ARCHS)
def test_fit_and_prediction_are_sums_over_nodes(arch, search_layers):
    """Times that are sums of known costs give these costs, and the prediction is the sum."""
    wanted = latency_table(ARCHS[arch])
    timed = bench(arch, f"--search-layers {search_layers}")
    assert timed.conditions["network"] == wanted.network

    def times(choice) -> dict[str, float]:
        found = {}
        for stack, layers in choice.items():
            names = timed.snapshot.candidates[stack]
            block = sum(wanted.operations[stack][names[o]] for layer in layers for o in layer)
            found[stack] = wanted.fixed[stack] + block * 2 / search_layers
        return found

    choices = timed.balanced()
    found = timed.table(choices, [times(choice) for choice in choices])
    for stack in wanted.fixed:
        assert found.fixed[stack] == pytest.approx(wanted.fixed[stack], abs=1e-5)
        assert found.operations[stack] == pytest.approx(wanted.operations[stack], abs=1e-5)
        assert found.operations[stack][NOTHING] == 0
    for genotype, choice in timed.random(5).items():
        assert found.predict(genotype) == pytest.approx(sum(times(choice).values()), abs=1e-3)


@pytest.mark.parametrize("arch", ARCHS)
def test_every_node_has_every_candidate_equally_often(arch):
    timed = bench(arch, "--encoder-operations ffn,glu,zero")
    choices = timed.balanced()
    for node in timed.snapshot.nodes():
        taken = [choice[node.stack][node.layer][node.row] for choice in choices]
        counts = torch.bincount(torch.tensor(taken))
        assert len(counts) == len(timed.snapshot.candidates[node.stack])
        assert counts.max() - counts.min() <= 4


@pytest.mark.parametrize("arch", ARCHS)
@pytest.mark.parametrize(("sentences", "beam", "length"), [(1, 5, 4), (3, 2, 6), (2, 1, 3)])
def test_the_decoder_takes_a_step_for_each_token(arch, sentences, beam, length):
    """Incrementally, for all rows, up to the logits; the encoder runs once."""
    timed = bench(arch, sentences=sentences, beam=beam, length=length)
    inputs, outputs = [], []
    timed.model.encoder.register_forward_hook(lambda m, args, out: inputs.append(args[0].shape))
    timed.model.decoder.register_forward_hook(lambda m, args, out: outputs.append(out[0].shape))
    seconds = timed.translate()
    assert len(seconds) == 1 + length and min(seconds) > 0
    assert inputs == [(sentences, length)]
    assert outputs == [(sentences * beam, 1, 48)] * length


# -- the penalty


@pytest.mark.parametrize("build", [build_search, build_darts])
def test_expected_latency_of_one_candidate_a_node_is_the_prediction(build):
    supernet = build(ffn_dim=16)
    family = "dartsformer" if build is build_search else "darts_transformer"
    arch = f"{family}_search"
    table, generator = latency_table(ARCHS[arch]), Random(1)
    coders, snapshot = searched_stacks(supernet), bench(arch).snapshot
    for _ in range(5):
        choice = draw(supernet, generator)
        for stack, coder in coders.items():
            hot = torch.tensor(choice[stack]).unsqueeze(-1)
            coder.alpha.data = torch.zeros_like(coder.alpha).scatter(-1, hot, 100.0)
        expected = LatencyDeviation(table, 1.0).expected(coders).item()
        assert expected == pytest.approx(table.predict(snapshot.genotype(choice)), rel=1e-5)


@pytest.mark.parametrize("pruned", [False, True])
@pytest.mark.parametrize("stack", ["encoder", "decoder"])
def test_penalty_has_the_derivatives_of_the_expectation(stack, pruned):
    """Its value, and the side of the target, are those of the genotype that would be derived."""
    torch.manual_seed(3)
    supernet = build_search().double()
    coders, table = searched_stacks(supernet), latency_table()
    snapshot = bench("dartsformer_search").snapshot
    for coder in coders.values():
        torch.nn.init.normal_(coder.alpha)
        if pruned:
            keep_best(coder, 0.5)
    alpha = coders[stack].alpha
    point = alpha.detach().clone().requires_grad_()

    def put(value: Tensor) -> None:
        del coders[stack].alpha
        coders[stack].alpha = value

    def expected(value: Tensor, excluded: tuple[str, ...]) -> Tensor:
        put(value)
        return LatencyDeviation(table, 1.0, excluded).expected(coders)

    for excluded in (), ("ffn",):
        assert torch.autograd.gradcheck(partial(expected, excluded=excluded), point)
        (wanted,) = torch.autograd.grad(expected(point, excluded), point)
        assert wanted.abs().max() > 1e-3 and not wanted[~coders[stack].remaining].any()
        for name in excluded:
            index = searched_node(coders[stack]).names.index(name)
            assert wanted[..., index].abs().max() < 1e-12
        derived = table.predict(snapshot.genotype(best(supernet, excluded)))
        assert derived != pytest.approx(expected(point, excluded).item(), rel=0.01)
        for share in 0.5, 0.99, 1.01, 2:
            target = derived / share
            penalty = LatencyDeviation(table, target, excluded)(coders, lambda: 0.4)
            assert penalty.item() == pytest.approx(abs(share - 1), abs=1e-9)
            (grad,) = torch.autograd.grad(penalty, point)
            torch.testing.assert_close(grad, wanted / target * (1 if share > 1 else -1))


# -- a search


LOG = "--log-format json --log-interval 20"


@pytest.mark.parametrize("strategy", ["darts", "gdas"])
def test_search_meets_its_target(data, tmp_path, strategy):
    """Without a penalty it does not. A resumed search, whatever its strategy, has the target that
    it is given."""
    table = latency_table()
    (tmp_path / "table.json").write_text(table.to_json())
    kind = [*SUPERNET, *f"--optimizer bilevel_adam --search-strategy {strategy}".split()]
    options = "--max-update 160 --arch-lr 0.05 --disable-validation --seed 2".split()

    def latency(folder) -> float:
        return table.predict(derive(snapshot_of(checkpoint(folder), "last")))

    train(kind, data, tmp_path / "free", *options)
    assert latency(tmp_path / "free") > 1.1 * 11

    target = ["--arch-penalty", "latency:2", "--latency-table", str(tmp_path / "table.json")]
    target += ["--latency-target"]
    folder = tmp_path / "limited"
    run = train(kind, data, folder, *options, *target, "11", *LOG.split())
    logged = [float(x) for x in re.findall(r'"latency": "([\d.]+)"', run.stderr + run.stdout)]
    found = latency(folder)
    assert found == pytest.approx(11, rel=0.1)
    assert logged[-1] == pytest.approx(found, abs=1e-3)

    if strategy == "gdas":
        train(kind, data, folder, *options, *target, "9.5", "--max-update", "240")
        assert latency(folder) < min(found, 1.1 * 9.5)
        (tmp_path / "table.json").unlink()  # only a training needs it
        where = folder / "checkpoints", "checkpoint_last.pt", data
        assert DARTSformerSearchModel.from_pretrained(*where).models


# -- the command


def run(monkeypatch, *arguments) -> None:
    monkeypatch.setattr(sys, "argv", ["dartsformer-latency", *map(str, arguments)])
    command.cli_main()


def test_a_language_model_has_the_steps_alone():
    options = "--embed-dim 8 --hidden-dim 24 --decoder-layers 2 --attention-heads 2 --cpu"
    cfg = training_config("dartsformer_lm_search", options.split())
    timed = Bench(cfg, 48, Translation(sentences=2, beam=3, length=4))
    rows = []
    timed.model.decoder.register_forward_hook(lambda m, args, out: rows.append(out[0].shape))
    assert len(timed.translate()) == 4 and rows == [(6, 1, 48)] * 4
    (choice,) = timed.random(1).values()
    assert choice.keys() == {"decoder"}


@pytest.mark.parametrize("arch", ARCHS)
def test_command(arch, tmp_path, monkeypatch, capsys):
    """It measures a table, compares it with random genotypes, and predicts from it."""
    path = tmp_path / "table.json"
    few = "--vocabulary 48 --sentences 2 --beam 2 --length 3 --rounds 1 --threads 1"
    few += " --encoder-operations ffn,glu --decoder-operations ffn,zero"
    measuring = ["--arch", arch, *TINY.split(), *few.split()]
    run(monkeypatch, *measuring, "--check", 3, "-o", path)
    table = LatencyTable.load(path)
    assert table.network == ARCHS[arch] and (table.sentences, table.length) == (2, 3)
    assert set(table.operations["encoder"]) == {"ffn", "glu", "zero"}
    out = capsys.readouterr().out
    rows = re.findall(r"^\| ([\d.]+) \| (-?[\d.]+) \| ([+-][\d.]+) \|$", out, re.M)
    assert len(rows) == 3 and "mean relative error" in out

    run(monkeypatch, *measuring, "--check", 2, "--latency-table", path)
    assert len(re.findall(r"^\| \d", capsys.readouterr().out, re.M)) == 2

    few = "--encoder-operations ffn,glu --decoder-operations ffn,zero"
    genotypes = list(bench(arch, few).random(2))
    for i, genotype in enumerate(genotypes):
        (tmp_path / f"{i}.json").write_text(genotype.to_json())
    files = [tmp_path / "0.json", tmp_path / "1.json"]
    table = latency_table(ARCHS[arch])
    path.write_text(table.to_json())
    run(monkeypatch, "--latency-table", path, "--genotype", *files)
    lines = capsys.readouterr().out.splitlines()
    for line, file, genotype in zip(lines, files, genotypes, strict=True):
        assert line == f"{file}: {table.predict(genotype):.3f} ms"

    run(monkeypatch, *measuring, "--genotype", files[0], "-o", tmp_path / "other.json")
    lines = capsys.readouterr().out.splitlines()
    (line,) = (line for line in lines if line.startswith("| ") and line[2].isdecimal())
    assert f"{files[0]}: {line.split()[1]} ms measured" in lines
    with pytest.raises(SystemExit):
        run(monkeypatch, *measuring, "--genotype", "paper_fig4_approx", "-o", tmp_path / "no")
    assert "paper_fig4_approx: is no architecture of this supernet" in capsys.readouterr().err
