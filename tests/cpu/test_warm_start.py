"""``--init-from-search``: a derived model computes what its supernet computes; what does not fit is
refused."""

import logging
from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch
from helpers.models import Task, build_derived, build_model, logits
from helpers.snapshots import search_state
from omegaconf import OmegaConf
from torch import nn

from fairseq_dartsformer.errors import InputError
from fairseq_dartsformer.operations import NORMS
from fairseq_dartsformer.search.snapshot import snapshot_of
from fairseq_dartsformer.search_space.families import (
    DARTS_TRANSFORMER,
    DARTS_TRANSFORMER_LM,
    DARTSFORMER,
    DARTSFORMER_LM,
    FAMILIES,
)
from fairseq_dartsformer.search_space.genotype import Genotype
from fairseq_dartsformer.search_space.sampling import chosen, draw

NET = {
    "src_tokens": torch.tensor([[5, 6, 7, 8, 9, 2], [1, 1, 10, 11, 12, 2]]),
    "src_lengths": torch.tensor([6, 4]),
    "prev_output_tokens": torch.tensor([[2, 13, 14, 15, 16], [2, 17, 18, 1, 1]]),
}
WIDTH = 120  # of which 2 to 5 splits with 2 heads are divisors


def supernet(family: str, task: Task | None = None, **options: Any) -> nn.Module:
    torch.manual_seed(1)
    return build_model(FAMILIES[family].supernet, task, hidden_dim=WIDTH, **options).double().eval()


def saved(path: Path, model: nn.Module, family: str, **options: Any) -> str:
    """A checkpoint of the search, with the options of the model that the test gives."""
    options = options if FAMILIES[family].pooled else {"pooling": None} | options
    names = {"splits": "encoder_splits"}
    state = search_state(_name=f"{family}_search", hidden_dim=WIDTH, **options)
    state["cfg"]["model"] |= {names.get(n, n): v for n, v in options.items()}
    torch.save(state | {"model": model.state_dict()}, path)
    return str(path)


def warm_start(path: str, genotype: Genotype, task: Task | None = None, **options: Any):
    """The derived model, and the weights with which its training begins."""
    options = {"hidden_dim": WIDTH, **{f"{s}_layers": 2 for s in genotype.blocks}} | options
    model = build_derived(genotype, task, **options).double().eval()
    own = options | {"init_from_search": path, "genotype": genotype.to_json()}
    cfg = OmegaConf.create({"model": own, "checkpoint": {"finetune_from_model": None}})
    return model, model.inherited_weights(cfg)


GRID = [
    *((DARTSFORMER.name, norm, 2, "max") for norm in NORMS),
    *(
        (DARTSFORMER.name, "post", splits, pooling)
        for splits in (3, 4)
        for pooling in ("max", "avg")
    ),
    *((DARTS_TRANSFORMER.name, norm, None, None) for norm in DARTS_TRANSFORMER.norms),
    (DARTSFORMER_LM.name, "pre-bare", 3, "avg"),
    (DARTS_TRANSFORMER_LM.name, "post", None, None),
]


@torch.no_grad()
@pytest.mark.parametrize(("family", "norm", "splits", "pooling"), GRID, ids=str)
def test_the_derived_model_computes_what_the_supernet_does(tmp_path, family, norm, splits, pooling):
    """With one-hot mixing weights of any genotype of the space, over several blocks a stack."""
    first = FAMILIES[family].stacks[0]  # has two blocks
    options: dict[str, Any] = {"operation_norm": norm, "search_layers": 2, f"{first}_layers": 4}
    if splits:
        options |= {f"{first}_splits": splits, "pooling": pooling}
    model = supernet(family, **options)
    path = saved(tmp_path / "c.pt", model, family, **options)
    snapshot = snapshot_of(torch.load(path), path)
    for seed in range(2):
        choice = draw(model, Random(seed))
        one_hot = {
            stack: nn.functional.one_hot(
                torch.tensor(rows), len(snapshot.candidates[stack])
            ).double()
            for stack, rows in choice.items()
        }
        derived, weights = warm_start(path, snapshot.genotype(choice), **{f"{first}_layers": 4})
        assert weights.keys() == derived.state_dict().keys()
        before = logits(derived, NET)
        derived.load_state_dict(weights)
        with chosen(model, one_hot):
            expected = logits(model, NET)
        torch.testing.assert_close(logits(derived, NET), expected, rtol=0, atol=1e-12)
        assert not torch.allclose(before, expected, atol=1e-3)


@torch.no_grad()
def test_a_shorter_block_is_in_the_space(tmp_path):
    """One that the search's block repeats, in one stack."""
    model = supernet(DARTSFORMER.name)
    path = saved(tmp_path / "c.pt", model, DARTSFORMER.name)
    layer, decoder = ("conv_5", "glu"), (("ffn", "zero", "cross_attention"),) * 2
    (short, inherited), (long, same) = (
        warm_start(path, Genotype((layer,) * n, decoder)) for n in (1, 2)
    )
    short.load_state_dict(inherited)
    long.load_state_dict(same)
    assert torch.equal(short(**NET)[0], long(**NET)[0])
    with pytest.raises(InputError, match="a block of 3 layers in the encoder, which must divide"):
        warm_start(path, Genotype((layer,) * 3, decoder), encoder_layers=3)


FIG4 = Genotype(
    encoder=(("ffn", "conv_3"), ("self_attention", "glu")),
    decoder=(("ffn", "self_attention", "cross_attention"),) * 2,
)
DIFFERENT = {
    "norm": (Genotype(FIG4.encoder, FIG4.decoder, norm="pre"), {}, "norm pre, it must be post"),
    "pooling": (Genotype(FIG4.encoder, FIG4.decoder, "avg"), {}, "pooling avg, it must be max"),
    "splits": (
        Genotype((("ffn",) * 3,), FIG4.decoder),
        {},
        "encoder splits 3, it must be 2 as in the search",
    ),
    "candidates": (
        Genotype((("ffn", "conv_11"),), FIG4.decoder),
        {},
        r"--genotype has conv_11 in encoder\[0\]\[1\], the candidates of the search "
        r"\(--encoder-operations\) are ffn, conv_3, self_attention, glu$",
    ),
    "family": (
        Genotype(
            (("ffn", "ffn"),), (("ffn", "cross_attention", "ffn"),), None, "darts_transformer"
        ),
        {},
        "a checkpoint of dartsformer_search, it must be of darts_transformer_search",
    ),
    "depth": (FIG4, {"decoder_layers": 4}, "--decoder-layers is 4, it must be 2"),
    "width": (FIG4, {"hidden_dim": 48}, "--hidden-dim is 48, it must be 120"),
    "embedding": (FIG4, {"embed_dim": 16}, "--embed-dim is 16, it must be 8"),
    "inner width": (FIG4, {"ffn_dim": 24}, "--ffn-dim is 24, it must be 20"),
    "heads": (FIG4, {"attention_heads": 4}, "--attention-heads is 4, it must be 2"),
    "sharing": (FIG4, {"share_all_embeddings": True}, "--share-all-embeddings is True"),
    "scale": (FIG4, {"no_scale_embedding": True}, "--no-scale-embedding is True"),
}


@pytest.mark.parametrize("case", DIFFERENT)
def test_another_space_or_size_is_refused(tmp_path, case):
    """In a line that names the option, what it is and what it must be."""
    sizes = {"embed_dim": 8, "ffn_dim": 20, "encoder_layers": 2, "decoder_layers": 2}
    sizes |= {"attention_heads": 2, "encoder_operations": "ffn,conv_3,self_attention,glu"}
    given = sizes | {"share_all_embeddings": False, "no_scale_embedding": False}
    path = saved(tmp_path / "c.pt", supernet("dartsformer", **sizes), "dartsformer", **given)
    warm_start(path, FIG4)
    genotype, options, pattern = DIFFERENT[case]
    with pytest.raises(InputError, match=pattern) as error:
        warm_start(path, genotype, **options)
    assert str(error.value).startswith(f"--init-from-search is {path}: ")


def test_another_dictionary_is_refused(tmp_path):
    """By its size, and by its words where the search's data are still there."""
    search = Task()
    for language in ("aa", "bb"):
        search.source_dictionary.save(str(tmp_path / f"dict.{language}.txt"))
    path = saved(tmp_path / "c.pt", supernet("dartsformer", search), "dartsformer")
    state = torch.load(path)
    state["cfg"]["task"] = {"data": str(tmp_path), "source_lang": "aa", "target_lang": "bb"}
    torch.save(state, path)
    warm_start(path, FIG4, search)
    with pytest.raises(InputError, match="dictionary has 34 words, the data's has 29"):
        warm_start(path, FIG4, Task(25))
    other = Task()
    other.target_dictionary.symbols[4:6] = "w1", "w0"
    other.target_dictionary.indices.update(w0=5, w1=4)
    with pytest.raises(
        InputError, match=r"decoder's dictionary differs from the search's, .*bb\.txt"
    ):
        warm_start(path, FIG4, other)
    (tmp_path / "dict.bb.txt").unlink()
    warm_start(path, FIG4, other)


def test_another_dictionary_of_a_language_model_is_refused(tmp_path):
    task = Task()
    task.source_dictionary.save(str(tmp_path / "dict.txt"))
    model = supernet("dartsformer_lm", task)
    path = saved(tmp_path / "c.pt", model, "dartsformer_lm", decoder_splits=2)
    state = torch.load(path)
    state["cfg"]["task"] = {"data": str(tmp_path)}
    torch.save(state, path)
    genotype = Genotype(None, (("ffn", "conv_3"),), "max", "dartsformer_lm")
    warm_start(path, genotype, task)
    other = Task()
    for dictionary in (other.source_dictionary, other.target_dictionary):
        dictionary.symbols[4:6] = "w1", "w0"
        dictionary.indices.update(w0=5, w1=4)
    with pytest.raises(InputError, match=r"decoder's dictionary differs from .*dict\.txt"):
        warm_start(path, genotype, other)


def test_what_was_taken_is_logged(tmp_path, caplog):
    """With a warning if the search had pruned an operation of the genotype."""
    caplog.set_level(logging.INFO)
    model = supernet("dartsformer")
    mask = torch.ones_like(model.encoder.alpha, dtype=torch.bool)
    mask[1, 0, 8] = mask[0, 1, 3] = False  # self_attention, as FIG4 has it, and a conv_11
    model.encoder.keep(mask)
    path = saved(tmp_path / "c.pt", model, "dartsformer")
    derived, weights = warm_start(path, FIG4)
    warning, info = (r.getMessage() for r in caplog.records[-2:])
    assert "had pruned self_attention in encoder[1][0]:" in warning
    numbers = sum(p.numel() for p in derived.parameters())
    assert f"after 10000 updates: {len(weights)} tensors, {numbers:,} parameters" in info


def test_damaged_checkpoints_are_refused(logged_search, tmp_path):
    state = torch.load(logged_search / "checkpoints" / "checkpoint_last.pt")
    bad = {"search_layers": "many", "encoder_splits": None}
    for name, value in bad.items():
        cfg = state["cfg"] | {"model": state["cfg"]["model"] | {name: value}}
        torch.save(state | {"cfg": cfg}, tmp_path / "bad.pt")
        with pytest.raises(InputError, match=r"bad\.pt: checkpoint .* is damaged"):
            warm_start(str(tmp_path / "bad.pt"), FIG4, hidden_dim=24, ffn_dim=16)
