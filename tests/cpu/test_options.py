"""Options that are called as fairseq's transformer calls them."""

import pytest
import torch
from models import Task, batch, build_derived, build_search, pad, sentence, shift, step_by_step

from fairseq_dartsformer.errors import InputError
from fairseq_dartsformer.genotype import BUILTIN

GENOTYPE = BUILTIN["paper_fig4_approx"]


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


def test_alpha_is_one_tensor_a_stack():
    model = build_search(encoder_splits=3, hidden_dim=120, search_layers=2)
    alphas = {name: tuple(p.shape) for name, p in model.named_parameters() if "alpha" in name}
    assert alphas == {"encoder.alpha": (2, 3, 13), "decoder.alpha": (2, 3, 14)}
    assert all(p.requires_grad for p in model.parameters())
    assert model.encoder.alpha.abs().max() < 0.01
