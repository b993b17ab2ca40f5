"""``--operation-norm``: three places of the norm in an operation, from search to translation."""

import json
import sys
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch
from helpers.fairseq_commands import DARTS, DERIVED, SEARCH, checkpoint, refused, train
from helpers.gradients import assert_same_gradients, gradients
from helpers.models import (
    build_darts,
    build_derived,
    build_search,
    every_operation_once,
    inheriting,
    step_by_step,
    uniform_genotype,
)
from helpers.output_checks import OUTPUT_CHECKS
from helpers.snapshots import search_state
from torch import Tensor, nn
from torch.nn import functional as F

from fairseq_dartsformer.cli.derive import report
from fairseq_dartsformer.errors import InputError
from fairseq_dartsformer.models import DARTSformerModel, DARTSformerSearchModel
from fairseq_dartsformer.operations import (
    DECODER_OPERATIONS,
    NORMS,
    Context,
    OperationConfig,
    build_operation,
)
from fairseq_dartsformer.plots import genotype_figure
from fairseq_dartsformer.search.history import check_one_space
from fairseq_dartsformer.search.snapshot import derive, snapshot_of
from fairseq_dartsformer.search_space.families import DARTS_TRANSFORMER, DARTSFORMER
from fairseq_dartsformer.search_space.genotype import BUILTIN, Genotype
from fairseq_dartsformer.search_space.sampling import chosen, draw

sys.path.insert(0, str(Path(__file__).parents[2] / "examples" / "nas_benchmark"))
from placing import TABLE, query
from sampling import Named, from_cells, read_list, to_cells, write_list
from table import Table, columns

FIG4 = BUILTIN["paper_fig4_approx"]
OTHERS = ["pre", "pre-bare"]
GRID = [(2, "max"), (3, "max"), (3, "avg")]  # splits; with 2, nothing is pooled
each_norm = pytest.mark.parametrize("norm", NORMS)


def operation(name: str, norm: str, dropout: float = 0.0) -> nn.Module:
    """An operation as a decoder has it, in float64, no parameter at its initial value."""
    cfg = OperationConfig(
        channels=12,
        encoder_dim=20,
        ffn_dim=18,
        attention_heads=3,
        causal=True,
        dropout=dropout,
        norm=norm,
    )
    built = build_operation(name, cfg).double()
    for parameter in built.parameters():
        nn.init.normal_(parameter)
    return built


@each_norm
@pytest.mark.parametrize("name", DECODER_OPERATIONS)
def test_formula(name, norm):
    """Zero and identity have neither residual nor norm; names of parameters are always the same."""
    built = operation(name, norm)
    assert built.state_dict().keys() == operation(name, "post").state_dict().keys()
    x, context = torch.randn(5, 2, 12).double(), Context(torch.randn(7, 2, 20).double())
    if name in ("zero", "identity"):
        assert torch.equal(built(x, context), x if name == "identity" else torch.zeros_like(x))
        return

    def ln(x: Tensor) -> Tensor:
        return F.layer_norm(x, (12,), built.layer_norm.weight, built.layer_norm.bias)

    def o(x: Tensor) -> Tensor:
        return built.operation(x, context)

    expected = {"post": ln(x + o(x)), "pre": x + o(ln(x)), "pre-bare": o(ln(x))}[norm]
    torch.testing.assert_close(built(x, context), expected, rtol=0, atol=1e-12)


@each_norm
def test_dropout_is_that_of_the_operation(norm):
    """Where all is dropped, the residual and the norm of the input are left."""
    built = operation("ffn", norm, dropout=1 - 1e-12).train()
    x = torch.randn(5, 2, 12).double()
    ln = F.layer_norm(x, (12,), built.layer_norm.weight, built.layer_norm.bias)
    expected = {"post": ln, "pre": x, "pre-bare": torch.zeros_like(x)}[norm]
    torch.testing.assert_close(built(x, Context()), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("norm", OTHERS)
def test_shape_is_checked(norm):
    built = operation("ffn", norm)
    built.operation = nn.Identity()
    built.operation.forward = lambda x, *_: x[:1]
    with pytest.raises(InputError, match="operation ffn returned"):
        built(torch.randn(5, 2, 12).double(), Context())


def supernet(norm: str, splits: int, pooling: str) -> nn.Module:
    """A supernet of all operations with sharp alphas, so that each matters somewhere."""
    torch.manual_seed(splits)
    built = build_search(
        encoder_splits=splits, pooling=pooling, hidden_dim=120, operation_norm=norm
    ).double()
    for stack in (built.encoder, built.decoder):
        nn.init.normal_(stack.alpha)
    return built


@each_norm
@pytest.mark.parametrize(("splits", "pooling"), GRID)
def test_gradients_of_a_supernet(norm, splits, pooling):
    """Reconstruction gives the gradients of ordinary autograd, with dropout, in float64."""
    model = supernet(norm, splits, pooling)
    assert_same_gradients(gradients(model, "store"), gradients(model, "reconstruct"))


@each_norm
@pytest.mark.parametrize(("splits", "pooling"), GRID)
@pytest.mark.parametrize("name", DECODER_OPERATIONS)
def test_gradients_of_one_operation(name, norm, splits, pooling):
    torch.manual_seed(1)
    genotype = replace(uniform_genotype(name, splits, pooling), norm=norm)
    options = {"encoder_layers": 3, "decoder_layers": 3, "hidden_dim": 120}
    model = build_derived(genotype, backprop="reconstruct", **options).double()
    # With biases of zero, a dropped output can be the same zero as another split. The gradient of
    # a maximum of equal numbers is ambiguous, and reconstruction is exact only up to rounding.
    for parameter in model.parameters():
        if parameter.dim() == 1:
            nn.init.normal_(parameter, std=0.3)
    assert_same_gradients(gradients(model, "store"), gradients(model, "reconstruct"))


@torch.no_grad()
@each_norm
@pytest.mark.parametrize("check", OUTPUT_CHECKS)
@pytest.mark.parametrize(("splits", "pooling"), GRID)
def test_output(norm, check, splits, pooling):
    """Causality, padding, step-by-step decoding of the supernet and of the derived model."""
    OUTPUT_CHECKS[check](supernet(norm, splits, pooling).eval())
    genotype = replace(every_operation_once(splits, pooling), norm=norm)
    OUTPUT_CHECKS[check](build_derived(genotype, hidden_dim=120).double().eval())


@torch.no_grad()
@pytest.mark.parametrize("norm", ["post", "pre"])
@pytest.mark.parametrize("check", OUTPUT_CHECKS)
def test_output_of_a_transformer(norm, check):
    torch.manual_seed(0)
    OUTPUT_CHECKS[check](build_darts(hidden_dim=120, operation_norm=norm).double().eval())
    genotype = replace(every_operation_once(1, None), norm=norm)
    OUTPUT_CHECKS[check](build_derived(genotype, hidden_dim=120).double().eval())


NET = {
    "src_tokens": torch.randint(4, 30, (2, 7)),
    "src_lengths": torch.tensor([7, 7]),
    "prev_output_tokens": torch.randint(4, 30, (2, 6)),
}


def state_of(model: nn.Module, family: str, **options: Any) -> dict[str, Any]:
    """What fairseq saves of a supernet."""
    state = search_state(_name=f"{family}_search", **options)
    return state | {"model": model.state_dict()}


@torch.no_grad()
@pytest.mark.parametrize(
    ("family", "norm", "splits", "pooling"),
    [
        *((DARTSFORMER, norm, *setting) for norm in NORMS for setting in GRID),
        *((DARTS_TRANSFORMER, norm, 2, None) for norm in DARTS_TRANSFORMER.norms),
    ],
    ids=str,
)
def test_derived_model_is_the_supernet(family, norm, splits, pooling):
    """From the checkpoint of a search, at a choice to the last bit."""
    torch.manual_seed(splits)
    options = {"operation_norm": norm, "hidden_dim": 120}
    if family is DARTSFORMER:
        options |= {"pooling": pooling, "encoder_splits": splits}
    model = (build_search if family is DARTSFORMER else build_darts)(**options).double().eval()
    snapshot = snapshot_of(
        state_of(model, family.name, splits=splits, pooling=pooling, operation_norm=norm), "c.pt"
    )
    assert snapshot.norm == derive(snapshot).norm == norm
    choice = draw(model, Random(1))
    genotype = snapshot.genotype(choice)
    derived = inheriting(model, snapshot, genotype, hidden_dim=120)
    with chosen(model, choice):
        logits = model(**NET)[0]
        steps = step_by_step(model, NET["src_tokens"], NET["prev_output_tokens"])
    assert torch.equal(derived(**NET)[0], logits)
    torch.testing.assert_close(steps, logits, rtol=0, atol=1e-10)
    other = inheriting(model, snapshot, replace(genotype, norm="post"), hidden_dim=120)
    assert torch.equal(other(**NET)[0], logits) == (norm == "post")


@each_norm
def test_a_norm_closes_each_stack(norm):
    """Whatever the scale of the stream."""
    model = build_derived(replace(FIG4, norm=norm), dropout=0.0).double().eval()
    seen = []
    for coder in (model.encoder, model.decoder):
        coder.stack.register_forward_hook(lambda module, given, out: 1000 * out)
        coder.layer_norm.register_forward_hook(lambda module, given, out: seen.append(out))
    model(**NET)
    for out in seen:
        torch.testing.assert_close(out.square().mean(-1), torch.ones_like(out[..., 0]))
    assert len(seen) == 2


@each_norm
@pytest.mark.parametrize("pooling", ["max", "avg"])
def test_json_and_back(norm, pooling):
    genotype = replace(every_operation_once(3, pooling), norm=norm)
    text = genotype.to_json()
    record = json.loads(text)
    assert record["version"] == 1 and record.get("norm", "post") == norm
    assert ("norm" in record) == (norm != "post")
    again = Genotype.from_json(text, "here")
    assert again == genotype and hash(again) == hash(genotype) and again.to_json() == text
    assert {replace(genotype, norm=other) == genotype for other in {*NORMS} - {norm}} == {False}
    assert Genotype.from_json(json.dumps(record | {"norm": norm}), "here") == genotype


@pytest.mark.parametrize(
    ("family", "norm", "message"),
    [
        ("dartsformer", "before", "norm is 'before': expected 'post' or 'pre' or 'pre-bare'"),
        ("dartsformer", ["pre"], "norm is ['pre']: expected 'post' or"),
        ("dartsformer", None, "norm is None: expected 'post' or"),
        ("darts_transformer", "pre-bare", "norm is 'pre-bare': expected 'post' or 'pre', as darts"),
    ],
)
def test_wrong_norm_in_json(family, norm, message):
    genotype = FIG4 if family == "dartsformer" else every_operation_once(1, None)
    record = json.loads(genotype.to_json()) | {"norm": norm}
    with pytest.raises(InputError) as error:
        Genotype.from_json(json.dumps(record), "here")
    assert str(error.value).startswith(f"genotype here: {message}")


def test_option_and_genotype_must_agree():
    for norm in NORMS:
        genotype = replace(FIG4, norm=norm)
        for given in NORMS:
            if given == norm:
                build_derived(genotype, operation_norm=given)
                continue
            pattern = f"--operation-norm is {given}, the genotype says {norm}: leave the option out"
            with pytest.raises(InputError, match=pattern):
                build_derived(genotype, operation_norm=given)


def test_transformer_needs_its_residual():
    with pytest.raises(InputError, match="--operation-norm is 'pre-bare': expected 'post' or 'pre"):
        build_darts(operation_norm="pre-bare")
    with pytest.raises(InputError, match="norm is 'pre-bare': expected 'post' or 'pre', as darts_"):
        build_derived(replace(every_operation_once(1, None), norm="pre-bare"))


def test_old_snapshots_are_post():
    """Those that differ are not of one search; a report names what is not the default."""
    old, new = (
        snapshot_of(search_state(**more), "c.pt") for more in ({}, {"operation_norm": "pre"})
    )
    assert (old.norm, new.norm) == ("post", "pre")
    assert report(old).splitlines()[0] == "c.pt: 10000 updates, max pooling"
    assert report(new).splitlines()[0] == "c.pt: 10000 updates, max pooling, norm pre"
    with pytest.raises(InputError, match="another search space"):
        check_one_space([old, new])


def test_old_checkpoints_are_post():
    """Of a search and of a derived model."""
    for model, options in ((DARTSformerSearchModel, {}), (DARTSformerModel, {"genotype": None})):
        old = {"_name": model.NAME, **options}
        for norm in ("post", None):
            model.check_options(old | {"operation_norm": norm}, old, "c.pt")
        with pytest.raises(InputError, match="--operation-norm is pre, but post in the training"):
            model.check_options(old | {"operation_norm": "pre"}, old, "c.pt")


def test_figure_has_the_formula():
    def words(norm: str) -> str:
        (axes,) = genotype_figure(replace(FIG4, norm=norm)).axes
        return " ".join(text.get_text() for text in axes.texts)

    assert "LN(" not in words("post")
    assert "x + o(LN(x))" in words("pre") and "computes o(LN(x))" in words("pre-bare")


@pytest.mark.parametrize("kind", [SEARCH, DERIVED], ids=["search", "derived"])
def test_training(data, tmp_path, kind):
    """It resumes with the same norm, and with no other; a derived model needs no option."""
    genotype = replace(FIG4, norm="pre-bare")
    given = ["--operation-norm", "pre-bare"] if kind is SEARCH else ["--genotype"]
    same = given if kind is SEARCH else [*given, genotype.to_json()]
    other = ["--operation-norm", "pre"] if kind is SEARCH else [*given, FIG4.to_json()]
    train(kind, data, tmp_path, "--max-update", "2", *same)
    pattern = r"is pre, but pre-bare in" if kind is SEARCH else "--genotype is {"
    refused(kind, data, tmp_path, "--max-update", "4", *other, pattern=pattern)
    train(kind, data, tmp_path, "--max-update", "4", *same)
    state = checkpoint(tmp_path)
    if kind is SEARCH:
        assert derive(snapshot_of(state, "c.pt")).norm == "pre-bare"
        return
    assert Genotype.load(state["cfg"]["model"]["genotype"]) == genotype
    wrong = [*same, "--operation-norm", "post"]
    pattern = "--operation-norm is post, the genotype says pre-bare"
    refused(kind, data, tmp_path, "--max-update", "6", *wrong, pattern=pattern)


def test_transformer_is_refused_on_the_command_line(data, tmp_path):
    pattern = "--operation-norm is 'pre-bare': expected 'post' or 'pre', as darts_transformer has"
    refused(DARTS, data, tmp_path, "--operation-norm", "pre-bare", pattern=pattern)


def test_benchmark(tmp_path):
    """Cells and lists carry the norm; without it, as in the published table, it is `post`."""
    named = [Named(f"figure-4-{norm}", replace(FIG4, norm=norm)) for norm in NORMS]
    write_list(tmp_path / "list.csv", named)
    assert read_list(tmp_path / "list.csv") == named
    for genotype in (named.genotype for named in named):
        assert from_cells(to_cells(genotype)) == genotype
    cells = to_cells(FIG4)
    without = {name: cell for name, cell in cells.items() if name != "norm"}
    assert from_cells(without) == from_cells(cells | {"norm": ""}) == FIG4
    published = Table(TABLE).rows()[0]
    genotype = from_cells(published)
    assert genotype.norm == "post" and published in query(genotype)
    assert query(replace(genotype, norm="pre")) == []


def test_benchmark_table_without_norms_can_be_extended(tmp_path):
    """Its rows keep their meaning."""
    table = Table(tmp_path / "table.csv")
    table.path.write_bytes(TABLE.read_bytes())
    before = table.rows()
    row = dict.fromkeys(columns(4000), "1") | to_cells(replace(FIG4, norm="pre"))
    table.add(row | {"name": "to the end"})
    *kept, added = table.rows()
    assert kept == before and from_cells(added).norm == "pre"
    assert list(added) == columns(4000)
