"""Options that are called as fairseq's transformer calls them."""

from functools import partial

import pytest
import torch
from helpers.models import (
    Task,
    batch,
    build_darts,
    build_derived,
    build_search,
    every_operation_once,
    pad,
    sentence,
    shift,
    step_by_step,
)

from fairseq_dartsformer.errors import InputError
from fairseq_dartsformer.operations.attention import CrossAttention
from fairseq_dartsformer.operations.feed_forward import FeedForward
from fairseq_dartsformer.search_space.genotype import BUILTIN

GENOTYPE = BUILTIN["paper_fig4_approx"]
DERIVED_DARTS = partial(
    build_derived, every_operation_once(1, None), encoder_layers=7, decoder_layers=7
)


@torch.no_grad()
@pytest.mark.parametrize(
    "options",
    [
        {"layernorm_embedding": True},
        {"encoder_learned_pos": True, "decoder_learned_pos": True},
        {"no_token_positional_embeddings": True},
        {"no_scale_embedding": True},
        {"share_decoder_input_output_embed": True},
        {"share_all_embeddings": True},
    ],
    ids=lambda options: next(iter(options)),
)
def test_step_by_step_equals_the_whole(options):
    model = build_derived(GENOTYPE, Task(same="share_all_embeddings" in options), **options)
    model = model.double().eval()
    net = batch([5, 5, 5])
    net["prev_output_tokens"] = pad(shift([sentence(5, i) for i in range(3)]))
    whole = model(**net)[0]
    steps = step_by_step(model, net["src_tokens"], net["prev_output_tokens"])
    torch.testing.assert_close(steps, whole, rtol=0, atol=1e-10)


def test_sharing():
    none, output, everything = (
        build_derived(GENOTYPE, share_decoder_input_output_embed=o, share_all_embeddings=a)
        for o, a in ((False, False), (True, False), (False, True))
    )
    for model, tied in ((none, False), (output, True), (everything, True)):
        embedding = model.decoder.input.embedding.tokens.weight
        assert (model.decoder.output_projection.weight is embedding) == tied
    assert output.encoder.input.embedding is not output.decoder.input.embedding
    assert everything.encoder.input.embedding is everything.decoder.input.embedding
    with pytest.raises(InputError, match="--share-all-embeddings"):
        build_derived(GENOTYPE, Task(same=False), share_all_embeddings=True)


def test_pretrained_embeddings(tmp_path):
    path = tmp_path / "vectors"
    path.write_text("2 8\nw3 " + " ".join("5" * 8) + "\nabsent " + " ".join("1" * 8) + "\n")
    task = Task()
    model = build_derived(GENOTYPE, task, encoder_embed_path=str(path))
    row = model.encoder.input.embedding.tokens.weight[task.source_dictionary.index("w3")]
    assert torch.equal(row, torch.full((8,), 5.0))
    with pytest.raises(InputError, match="--embed-dim is 16"):
        build_derived(GENOTYPE, task, encoder_embed_path=str(path), embed_dim=16)
    with pytest.raises(InputError, match="absent"):
        build_derived(GENOTYPE, task, encoder_embed_path="absent")
    path.write_text("")
    with pytest.raises(InputError, match=f"{path}: it is empty"):
        build_derived(GENOTYPE, task, encoder_embed_path=str(path))


@torch.no_grad()
@pytest.mark.parametrize("build", [build_search, lambda: build_derived(GENOTYPE)])
def test_half_precision_keeps_streams_and_alpha_in_float32(build):
    torch.manual_seed(0)
    model = build().eval()
    exact = model(**batch([5, 7]))[0]
    alpha = [p.clone() for name, p in model.named_parameters() if "alpha" in name]
    model = model.bfloat16()
    assert [p.dtype for n, p in model.named_parameters() if "alpha" in n] == [torch.float32] * len(
        alpha
    )
    assert all(map(torch.equal, alpha, (p for n, p in model.named_parameters() if "alpha" in n))), (
        "alpha was rounded on the way"
    )
    streams = []
    model.decoder.stack.register_forward_hook(lambda module, args, out: streams.append(out.dtype))
    logits = model(**batch([5, 7]))[0]
    assert logits.dtype == torch.bfloat16 and streams == [torch.float32]
    torch.testing.assert_close(logits.float(), exact, rtol=0, atol=0.1)


def test_alpha_stays_float32_with_its_gradient():
    model = build_search()
    model(**batch([3]))[0].sum().backward()
    model = model.bfloat16()
    assert model.encoder.alpha.dtype == model.encoder.alpha.grad.dtype == torch.float32
    assert model.double().float().encoder.alpha.dtype == torch.float32


@pytest.mark.parametrize(
    ("build", "name", "sizes"),
    [
        (build_search, "dartsformer_search", (256, 960, 8, 5120)),
        (build_search, "dartsformer_search_tiny", (128, 120, 4, 640)),
        (build_search, "dartsformer_search_small", (128, 240, 8, 1280)),
        (build_search, "dartsformer_search_medium", (256, 480, 8, 2560)),
        (build_darts, "darts_transformer_search", (320, 320, 8, 1280)),
        (DERIVED_DARTS, "darts_transformer", (512, 512, 8, 2048)),
        (partial(build_derived, GENOTYPE), "dartsformer", (256, 960, 8, 5120)),
        (partial(build_derived, GENOTYPE), "dartsformer_small", (128, 240, 8, 1280)),
        (partial(build_derived, GENOTYPE), "dartsformer_medium", (256, 480, 8, 2560)),
        (partial(build_derived, GENOTYPE), "dartsformer_big", (512, 1824, 8, 9728)),
    ],
)
def test_sizes_of_the_named_architectures(build, name, sizes):
    """Also where only the name is given, as in a configuration file; a given option wins."""
    open_sizes = dict.fromkeys(("embed_dim", "hidden_dim", "attention_heads", "ffn_dim"))
    with torch.device("meta"):
        model = build(_name=name, **open_sizes)
        ffn = next(m for m in model.modules() if isinstance(m, FeedForward))
        attention = next(m for m in model.modules() if isinstance(m, CrossAttention))
        embedding = model.encoder.input.embedding
        shapes = (*embedding.projection.weight.shape[::-1], attention.heads, ffn.fc1.out_features)
        assert shapes == sizes
        given = build(_name=name, **{**open_sizes, "embed_dim": 8})
        assert given.encoder.input.embedding.projection.in_features == 8


def test_alpha_is_one_tensor_a_stack():
    model = build_search(encoder_splits=3, hidden_dim=120, search_layers=2)
    alphas = {name: tuple(p.shape) for name, p in model.named_parameters() if "alpha" in name}
    assert alphas == {"encoder.alpha": (2, 3, 13), "decoder.alpha": (2, 3, 14)}
    assert all(p.requires_grad for p in model.parameters())
    assert model.encoder.alpha.abs().max() < 0.01
