"""`dartsformer-derive`: argmax, its report, several checkpoints, and what it refuses."""

import math

import pytest
import torch
from fairseq.models import ARCH_MODEL_NAME_REGISTRY
from helpers.snapshots import saved, search_state

from fairseq_dartsformer.cli import derive as command
from fairseq_dartsformer.errors import InputError
from fairseq_dartsformer.operations import DECODER_OPERATIONS, ENCODER_OPERATIONS
from fairseq_dartsformer.search.snapshot import derive, snapshot_of
from fairseq_dartsformer.search_space.genotype import Genotype


def run(*arguments) -> None:
    command.main(command.get_parser().parse_args([*map(str, arguments)]))


def derived(state, exclude=()) -> Genotype:
    return derive(snapshot_of(state, "c.pt"), exclude)


@pytest.mark.parametrize("decoder_splits", [None, 2, 5])
@pytest.mark.parametrize(
    ("layers", "splits", "pooling"), [(1, 2, "max"), (2, 2, "avg"), (2, 4, "max")]
)
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
    report = command.report(snapshot_of(state, "c.pt"), top=1)
    assert "\ndecoder layer 2 node 2: cross_attention, fixed\n" in report
    assert f"\ndecoder layer 2 node 3: {names[1][1]}, margin" in report


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
    lines = command.report(result, exclude=["ffn", "zero"], top=1).splitlines()
    assert lines[1].startswith("encoder layer 1 split 1: glu, margin none")
    assert lines[2:4] == ["  0.500000 ffn (excluded)", "  0.200000 glu"]  # the chosen one, always
    assert lines[4].startswith("encoder layer 1 split 2")


@pytest.mark.parametrize("output", ["genotype.json", ".", None])
def test_one_checkpoint(tmp_path, capsys, output):
    path = saved(tmp_path / "checkpoint_3_20000.pt")
    run(path, *(["-o", tmp_path / output] if output else []))
    printed = capsys.readouterr().out
    name = "checkpoint_3_20000.json" if output == "." else output
    written = str(tmp_path / name) if output else printed[printed.index("\n{") :]
    assert Genotype.load(written) == derived(search_state())
    assert printed.endswith(f"wrote {written}\n" if output else written)


def test_several_checkpoints(tmp_path, capsys):
    paths = [saved(tmp_path / f"checkpoint_1_{n}.pt", seed=n) for n in range(3)]
    changed = search_state(1)
    changed["model"]["encoder.alpha"][1, 0, 11] = 99
    changed["optimizer_history"][-1]["num_updates"] = 25_000
    torch.save(changed, paths[2])
    run(*paths, "-o", tmp_path / "new" / "folder")
    for n, state in enumerate([search_state(0), search_state(1), changed]):
        assert Genotype.load(str(tmp_path / f"new/folder/checkpoint_1_{n}.json")) == derived(state)
    table = [line.split("  ") for line in capsys.readouterr().out.split("\n\n")[-2].splitlines()]
    rows = {row[0]: [cell.strip() for cell in row[1:] if cell.strip()] for row in table}
    assert rows["updates"] == ["10000", "20000", "25000"]
    assert rows["changed"][0] == "0" and rows["changed"][2] == "1"
    assert rows["encoder layer 2 split 1"][2] == "zero *"
    names = [[row[n].endswith("*") for row in rows.values()] for n in range(3)]
    assert [str(sum(marks)) for marks in names] == rows["changed"]


def poison(alpha):
    alpha[1, 0, 5] = math.nan
    return alpha


ENCODER, DECODER = ("model", "encoder.alpha"), ("model", "decoder.alpha")
FOREIGN = "is not a checkpoint as fairseq writes it"
SAMPLED = {"_name": "translation_search", "search_strategy": "uniform_sampling"}


@pytest.mark.parametrize(
    ("place", "change", "message"),
    [
        (ENCODER, poison, "alpha of encoder layer 2 split 1 is not finite"),
        (ENCODER, lambda a: a[..., :12], r"encoder.alpha has shape \(2, 2, 12\): expected"),
        (DECODER, lambda a: a[:, :1], r"\(2, 1, 14\): expected \(2, 2, 14\)"),
        (DECODER, lambda a: None, "decoder.alpha is missing: expected a tensor"),
        (("cfg", "model", "_name"), lambda _: "dartsformer_big", "is a derived model's checkpoint"),
        (("cfg", "task"), lambda _: SAMPLED, "by uniform_sampling, .* with dartsformer-evolve"),
        *((place, lambda _: None, FOREIGN) for place in (["cfg"], ["model"])),
        (["optimizer_history"], lambda _: [], FOREIGN),
    ],
)
def test_no_checkpoint_of_a_search_that_learns_alpha(place, change, message):
    state = part = search_state()
    for key in place[:-1]:
        part = part[key]
    part[place[-1]] = change(part.get(place[-1]))
    with pytest.raises(InputError, match=f"^c.pt: .*{message}"):
        derived(state)


def test_architecture_of_a_plugin(monkeypatch):
    """Its family follows from the model it is registered for."""
    monkeypatch.setitem(ARCH_MODEL_NAME_REGISTRY, "mine", "dartsformer_search")
    assert derived(search_state(_name="mine")) == derived(search_state())
    monkeypatch.setitem(ARCH_MODEL_NAME_REGISTRY, "mine", "dartsformer")
    with pytest.raises(InputError, match="is a derived model's checkpoint"):
        derived(search_state(_name="mine"))
