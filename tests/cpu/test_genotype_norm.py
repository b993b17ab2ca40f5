"""``--operation-norm`` in options, genotypes, checkpoints, figures and tables."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from helpers.fairseq_commands import DARTS, DERIVED, SEARCH, checkpoint, refused, train
from helpers.models import (
    build_darts,
    build_derived,
    every_operation_once,
)
from helpers.snapshots import search_state

from fairseq_dartsformer.cli.derive import report
from fairseq_dartsformer.errors import InputError
from fairseq_dartsformer.models import DARTSformerModel, DARTSformerSearchModel
from fairseq_dartsformer.operations import (
    NORMS,
)
from fairseq_dartsformer.plots import genotype_figure
from fairseq_dartsformer.search.history import check_one_space
from fairseq_dartsformer.search.snapshot import derive, snapshot_of
from fairseq_dartsformer.search_space.genotype import BUILTIN, Genotype

sys.path.insert(0, str(Path(__file__).parents[2] / "examples" / "nas_benchmark"))
from placing import TABLE, query
from sampling import Named, from_cells, read_list, to_cells, write_list
from table import Table, columns

FIG4 = BUILTIN["paper_fig4_approx"]
each_norm = pytest.mark.parametrize("norm", NORMS)


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
