"""`dartsformer-derive`: argmax, its report, several checkpoints, and what it refuses."""

import json
import math
import subprocess
import sys
from argparse import Namespace

import pytest
import torch
from fairseq.models import ARCH_MODEL_NAME_REGISTRY
from helpers.searches import saved, search_state

from fairseq_dartsformer.cli import derive as command
from fairseq_dartsformer.errors import InputError
from fairseq_dartsformer.operations import DECODER_OPERATIONS, ENCODER_OPERATIONS
from fairseq_dartsformer.search.snapshot import derive, snapshot_of
from fairseq_dartsformer.search_space.genotype import Genotype


def run(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["dartsformer-derive", *map(str, arguments)])
    command.cli_main()


def failure(monkeypatch, capsys, *arguments) -> str:
    """The one line on stderr of a run that must fail with status 1, having printed nothing."""
    with pytest.raises(SystemExit) as stop:
        run(monkeypatch, *arguments)
    captured = capsys.readouterr()
    assert stop.value.code == 1 and captured.out == "" and captured.err.count("\n") == 1
    assert captured.err.startswith("dartsformer-derive: error: ")
    return captured.err


def derived(state, exclude=()):
    return derive(snapshot_of(state, "c.pt"), exclude)


@pytest.mark.parametrize("pooling", ["max", "avg"])
@pytest.mark.parametrize("decoder_splits", [None, 2, 5])
@pytest.mark.parametrize(("layers", "splits"), [(1, 2), (2, 2), (2, 4)])
def test_derivation_is_argmax(layers, splits, decoder_splits, pooling):
    state = search_state(3, layers, splits, decoder_splits, pooling)
    genotype = derived(state)
    assert genotype.pooling == pooling
    assert genotype.decoder_splits == (decoder_splits or splits + 1)
    for stack, names in (("encoder", ENCODER_OPERATIONS), ("decoder", DECODER_OPERATIONS)):
        best = state["model"][f"{stack}.alpha"].argmax(-1).tolist()
        fixed = ["cross_attention"] if stack == "decoder" else []
        for i, layer in enumerate(getattr(genotype, stack)):
            assert list(layer) == [names[o] for o in best[i]] + fixed


def test_darts_on_a_transformer():
    state = search_state(decoder_splits=3, _name="darts_transformer_search", pooling=None)
    for option in ("encoder_splits", "decoder_splits", "pooling"):
        del state["cfg"]["model"][option]
    best = state["model"]["decoder.alpha"].argmax(-1).tolist()
    genotype = derived(state)
    assert (genotype.family, genotype.pooling) == ("darts_transformer", None)
    names = [[DECODER_OPERATIONS[o] for o in layer] for layer in best]
    assert genotype.decoder == tuple((a, "cross_attention", b) for a, b in names)
    result = snapshot_of(state, "c.pt")
    lines = [
        line for line in command.report(result, top=1).splitlines() if "decoder layer 2" in line
    ]
    first, fixed, last = lines
    assert first.startswith(f"decoder layer 2 node 1: {names[1][0]}, margin")
    assert fixed == "decoder layer 2 node 2: cross_attention, fixed"
    assert last.startswith(f"decoder layer 2 node 3: {names[1][1]}, margin")
    with pytest.raises(InputError, match="has another search space"):
        results = [result, snapshot_of(search_state(), "d.pt")]
        command.changes(results, list(map(derive, results)))


def test_a_search_that_does_not_learn_alpha_is_refused():
    state = search_state()
    state["cfg"]["task"] = {"_name": "translation_search", "search_strategy": "uniform_sampling"}
    with pytest.raises(InputError, match=r"by uniform_sampling, .* with dartsformer-evolve"):
        derived(state)
    state["cfg"]["task"]["search_strategy"] = "darts"
    derived(state)


def test_candidates_are_those_of_the_search():
    state = search_state(encoder_operations="zero, ffn,glu", decoder_operations="ffn,identity")
    state["model"]["encoder.alpha"][..., 0] = 9
    state["model"]["decoder.alpha"][..., 1] = 9
    assert derived(state).encoder == (("zero",) * 2,) * 2
    assert derived(state).decoder == (("identity", "identity", "cross_attention"),) * 2
    exclude = ["zero", "identity", "conv_3"]
    assert not {"zero", "identity"} & set(sum(derived(state, exclude).encoder, ()))
    assert derived(state, exclude).decoder == (("ffn", "ffn", "cross_attention"),) * 2


def test_of_equals_the_first_is_taken_and_the_fixed_split_is_never_excluded():
    state = search_state()
    for alpha in state["model"].values():
        alpha.zero_()
    genotype = derived(state, ["cross_attention"])
    assert genotype.encoder == (("conv_3",) * 2,) * 2
    assert genotype.decoder == (("conv_3", "conv_3", "cross_attention"),) * 2


@pytest.mark.parametrize(
    ("exclude", "message"),
    [
        (["zro"], "--exclude: 'zro' is not an operation: expected conv_3"),
        (["ffn", "glu"], "leaves no candidate in the encoder of c.pt: it has ffn, glu"),
    ],
)
def test_exclude_that_does_not_do(exclude, message):
    with pytest.raises(InputError, match=message):
        derived(search_state(encoder_operations="ffn,glu"), exclude)


def test_report_has_weights_margin_and_entropy():
    state = search_state(encoder_operations="ffn,glu,zero", decoder_operations="ffn,glu")
    state["model"]["encoder.alpha"][:] = torch.tensor([0.5, 0.2, 0.3]).log()
    state["model"]["decoder.alpha"].zero_()
    result = snapshot_of(state, "c.pt")
    lines = command.report(result).splitlines()
    nats = -sum(p * math.log(p) for p in (0.5, 0.2, 0.3))
    assert lines[:5] == [
        "c.pt: 10000 updates, max pooling",
        f"encoder layer 1 split 1: ffn, margin 0.200000, entropy {nats:.3f} of at most 1.099",
        "  0.500000 ffn",
        "  0.300000 zero",
        "  0.200000 glu",
    ]
    assert "decoder layer 2 split 1: ffn, margin 0.000000, entropy 0.693 of at most 0.693" in lines
    assert lines[-1] == "decoder layer 2 split 3: cross_attention, fixed"
    lines = command.report(result, exclude=["ffn"], top=2).splitlines()
    assert lines[1].startswith("encoder layer 1 split 1: zero, margin 0.100000, ")
    assert lines[2:4] == ["  0.500000 ffn (excluded)", "  0.300000 zero"]
    assert lines[4].startswith("encoder layer 1 split 2")
    lines = command.report(result, exclude=["ffn", "zero"], top=1).splitlines()
    assert lines[2:4] == ["  0.500000 ffn (excluded)", "  0.200000 glu"]  # the chosen one, always
    assert lines[4].startswith("encoder layer 1 split 2")
    assert "margin none" in command.report(result, exclude=["ffn", "zero"])


@pytest.mark.parametrize("output", ["genotype.json", ".", None])
def test_one_checkpoint(tmp_path, monkeypatch, capsys, output):
    path = saved(tmp_path / "checkpoint_3_20000.pt")
    expected = derived(search_state())
    run(monkeypatch, path, *(["-o", tmp_path / output] if output else []))
    printed = capsys.readouterr().out
    if output is None:
        assert Genotype.load(printed[printed.index("\n{") :]) == expected
    else:
        name = "checkpoint_3_20000.json" if output == "." else output
        assert Genotype.load(str(tmp_path / name)) == expected
        assert printed.endswith(f"wrote {tmp_path / name}\n")


def test_several_checkpoints(tmp_path, monkeypatch, capsys):
    paths = [saved(tmp_path / f"checkpoint_1_{n}.pt", seed=n) for n in range(3)]
    changed = search_state(1)
    changed["model"]["encoder.alpha"][1, 0, 11] = 99
    changed["optimizer_history"][-1]["num_updates"] = 25_000
    torch.save(changed, paths[2])
    run(monkeypatch, *paths, "-o", tmp_path / "new" / "folder")
    for n, state in enumerate([search_state(0), search_state(1), changed]):
        assert Genotype.load(str(tmp_path / f"new/folder/checkpoint_1_{n}.json")) == derived(state)
    table = [line.split("  ") for line in capsys.readouterr().out.split("\n\n")[-2].splitlines()]
    rows = {row[0]: [cell.strip() for cell in row[1:] if cell.strip()] for row in table}
    assert rows["updates"] == ["10000", "20000", "25000"]
    assert rows["changed"][0] == "0" and rows["changed"][2] == "1"
    assert rows["encoder layer 2 split 1"][2] == "zero *"
    names = [[row[n].endswith("*") for row in rows.values()] for n in range(3)]
    assert [str(sum(marks)) for marks in names] == rows["changed"]


def test_several_checkpoints_that_do_not_go_together(tmp_path, monkeypatch, capsys):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
    a = saved(tmp_path / "a" / "checkpoint1.pt")
    same_name = saved(tmp_path / "b" / "checkpoint1.pt")
    other_space = saved(tmp_path / "b" / "checkpoint2.pt", layers=1)
    file = tmp_path / "file"
    file.touch()
    for arguments, message in [
        ((a, same_name, "-o", tmp_path), f"{a} and {same_name} would both be "),
        ((a, other_space, "-o", file), "is a file: several checkpoints need a folder"),
        ((a, other_space, "-o", tmp_path / "new"), "has another search space than"),
    ]:
        assert message in failure(monkeypatch, capsys, *arguments)
    assert not list(tmp_path.rglob("*.json")) and not (tmp_path / "new").exists()


def poison(alpha):
    alpha[1, 0, 5] = math.nan
    return alpha


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("encoder.alpha", poison, "alpha of encoder layer 2 split 1 is not finite"),
        ("decoder.alpha", lambda a: a / 0, "alpha of decoder layer 1 split 1 is not finite"),
        ("encoder.alpha", lambda a: a[..., :12], r"encoder.alpha has shape \(2, 2, 12\): expected"),
        ("decoder.alpha", lambda a: a[:1], r"\(1, 2, 14\): expected \(2, 2, 14\)"),
        ("decoder.alpha", lambda a: a[:, :1], r"\(2, 1, 14\): expected \(2, 2, 14\)"),
        ("encoder.alpha", lambda a: a[0], "encoder.alpha has shape"),
        ("encoder.alpha", lambda a: a.long(), "encoder.alpha is missing: expected a tensor"),
        ("decoder.alpha", None, "decoder.alpha is missing: expected a tensor"),
    ],
)
def test_damaged_alpha(key, value, message):
    state = search_state()
    state["model"][key] = value and value(state["model"][key])
    with pytest.raises(InputError, match="^c.pt: .*" + message):
        derived(state)


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({"cfg": {"model": {"_name": "dartsformer"}}}, "is a derived model's checkpoint"),
        ({"cfg": {"model": {"_name": "dartsformer_big"}}}, "is a derived model's checkpoint"),
        ({"cfg": {"model": {"_name": "transformer"}}}, "is a transformer model's checkpoint"),
        ({"cfg": {"model": Namespace(_name="fconv")}}, "is a fconv model's checkpoint"),
        ({"cfg": None}, "is not a checkpoint as fairseq writes it"),
        ({"model": None}, "is not a checkpoint as fairseq writes it"),
        ({"optimizer_history": []}, "is not a checkpoint as fairseq writes it"),
    ],
)
def test_foreign_checkpoint(state, message):
    with pytest.raises(InputError, match=f"^c.pt: {message}"):
        derived(search_state() | {"model": {"w": torch.ones(1)}} | state)


def test_architecture_of_a_plugin(monkeypatch):
    """Its family follows from the model it is registered for."""
    expected = derived(search_state())
    monkeypatch.setitem(ARCH_MODEL_NAME_REGISTRY, "mine", "dartsformer_search")
    assert derived(search_state(_name="mine")) == expected
    monkeypatch.setitem(ARCH_MODEL_NAME_REGISTRY, "mine", "dartsformer")
    with pytest.raises(InputError, match="is a derived model's checkpoint"):
        derived(search_state(_name="mine"))


def test_nothing_is_written_on_an_error(tmp_path, monkeypatch, capsys):
    good = saved(tmp_path / "checkpoint1.pt")
    bad = tmp_path / "checkpoint2.pt"
    output = tmp_path / "out"
    content = (tmp_path / "checkpoint1.pt").read_bytes()
    for damaged in (content[: len(content) // 2], b"", b"no checkpoint"):
        bad.write_bytes(damaged)
        assert str(bad) in failure(monkeypatch, capsys, good, bad, "-o", output)
    bad.unlink()
    assert str(bad) in failure(monkeypatch, capsys, good, bad, "-o", output)
    assert "no folder" in failure(monkeypatch, capsys, good, "-o", output / "genotype.json")
    assert "would overwrite" in failure(monkeypatch, capsys, good, "-o", good)
    assert "is not a file" in failure(monkeypatch, capsys, good, "-o", "/dev/null")
    assert "not an operation" in failure(monkeypatch, capsys, good, "-o", output, "--exclude", "x")
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint1.pt"]
    assert (tmp_path / "checkpoint1.pt").read_bytes() == content


def test_as_a_module(tmp_path):
    path = saved(tmp_path / "checkpoint1.pt")
    arguments = [sys.executable, "-m", "fairseq_dartsformer.cli.derive", path, "--top", "1"]
    done = subprocess.run([*arguments, "-o", tmp_path / "g.json"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    record = json.loads((tmp_path / "g.json").read_text())
    assert list(record) == ["version", "family", "pooling", "encoder", "decoder"]
