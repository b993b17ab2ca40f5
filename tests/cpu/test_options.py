"""Options that are called as fairseq's transformer calls them."""

from functools import partial

import pytest
import torch
from fairseq import options, tasks
from fairseq.dataclass.utils import convert_namespace_to_omegaconf
from fairseq.models import ARCH_MODEL_REGISTRY
from helpers.fairseq_commands import TEXT_GENOTYPE
from helpers.models import (
    Task,
    batch,
    build_derived,
    build_lm,
    build_search,
    every_operation_once,
    pad,
    sentence,
    shift,
    step_by_step,
)

from fairseq_dartsformer.errors import InputError
from fairseq_dartsformer.operations import DECODER_OPERATIONS
from fairseq_dartsformer.search_space.genotype import BUILTIN

GENOTYPE = BUILTIN["paper_fig4_approx"]


@torch.no_grad()
@pytest.mark.parametrize(
    "given",
    [
        {"layernorm_embedding": True},
        {"encoder_learned_pos": True, "decoder_learned_pos": True},
        {"no_token_positional_embeddings": True},
        {"no_scale_embedding": True},
        {"share_decoder_input_output_embed": True},
        {"share_all_embeddings": True},
    ],
    ids=lambda given: next(iter(given)),
)
def test_step_by_step_equals_the_complete_target(given):
    model = build_derived(GENOTYPE, Task(same="share_all_embeddings" in given), **given)
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


VECTOR = " ".join("5" * 8)


@pytest.mark.parametrize(
    "text",
    [
        f"2 8\nw3 {VECTOR}\nabsent {VECTOR}\n",
        f"w3 {VECTOR}\nabsent {VECTOR}\n",
        f"\ufeffw3 {VECTOR}\n\n \n",
        f"2 8\nw3 {VECTOR} ",
    ],
    ids=["header", "no header", "mark and blank lines", "no last line end"],
)
def test_pretrained_embeddings(tmp_path, text):
    path, task = tmp_path / "vectors", Task()
    path.write_text(text, encoding="utf-8")
    model = build_derived(GENOTYPE, task, encoder_embed_path=str(path))
    rows = model.encoder.input.embedding.tokens.weight.eq(5).all(1)
    assert rows.nonzero().tolist() == [[task.source_dictionary.index("w3")]]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (f"2 8\nw3 {VECTOR} 5\n", "line 2: 9 numbers, --embed-dim is 8"),
        (f"w1 {VECTOR}\n\nw3 {VECTOR[:-1]}x\n", "line 3: could not convert string to float"),
        ("\n", ": it is empty"),
        (None, "No such file"),
    ],
)
def test_bad_pretrained_embeddings(tmp_path, text, found):
    path = tmp_path / "vectors"
    if text is not None:
        path.write_text(text)
    with pytest.raises(
        InputError, match=f"cannot read pre-trained embeddings from {path}.*{found}"
    ):
        build_derived(GENOTYPE, encoder_embed_path=str(path))


@pytest.mark.parametrize("arch", ["dartsformer_search", "dartsformer", "evolved_transformer"])
def test_a_task_without_source_and_target_is_refused(tmp_path, arch):
    (tmp_path / "dict.txt").write_text("a 1\n")
    given = [str(tmp_path), "--task", "language_modeling", "--arch", arch]
    given += ["--genotype", "paper_fig4_approx"] * (arch == "dartsformer")
    args = options.parse_args_and_arch(options.get_training_parser("language_modeling"), given)
    cfg = convert_namespace_to_omegaconf(args)
    task = tasks.setup_task(cfg.task)
    with pytest.raises(InputError, match=r"--task is language_modeling, but .* use translation"):
        task.build_model(cfg.model)


@pytest.mark.parametrize("arch", ["dartsformer_lm_search", "darts_transformer_lm_search"])
def test_a_task_of_source_and_target_is_refused(data, arch):
    given = [str(data), "--task", "translation", "--arch", arch]
    args = options.parse_args_and_arch(options.get_training_parser(), given)
    cfg = convert_namespace_to_omegaconf(args)
    task = tasks.setup_task(cfg.task)
    with pytest.raises(InputError, match=r"--task is translation, but .* use language_modeling"):
        task.build_model(cfg.model)


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("--self-target", "--self-target is given, but the model predicts the next token alone"),
        ("--past-target --future-target", "--past-target is given, but the model predicts"),
        ("--tokens-per-sample 0", "--tokens-per-sample is 0, it must be at least 1"),
    ],
)
@pytest.mark.parametrize("arch", ["dartsformer_lm_search", "dartsformer_lm"])
def test_windows_and_targets_of_a_language_model(tmp_path, arch, option, message):
    (tmp_path / "dict.txt").write_text("a 1\n")
    given = [str(tmp_path), "--task", "language_modeling", "--arch", arch, *option.split()]
    given += ["--genotype", TEXT_GENOTYPE.to_json()] * (arch == "dartsformer_lm")
    args = options.parse_args_and_arch(options.get_training_parser("language_modeling"), given)
    cfg = convert_namespace_to_omegaconf(args)
    with pytest.raises(InputError, match=message):
        tasks.setup_task(cfg.task).build_model(cfg.model)


@torch.no_grad()
@pytest.mark.parametrize("shared", [False, True])
def test_input_and_output_of_a_language_model(shared):
    """They share their embedding if that is asked for, and its dictionary allows it."""
    model = build_lm(share_decoder_input_output_embed=shared)
    embedding = model.decoder.input.embedding.tokens.weight
    assert (model.decoder.output_projection.weight is embedding) == shared
    task = Task(same=False)
    if shared:
        with pytest.raises(InputError, match="--output-dictionary-size"):
            build_lm(task, share_decoder_input_output_embed=True)
        return
    tokens = torch.tensor([[2, 4, 5]])
    assert build_lm(task)(tokens)[0].size(-1) == len(task.target_dictionary)


SUPERNET = {"_name": "dartsformer_search", "attention_heads": 8, "pooling": "max"}
SUPERNET |= {"encoder_operations": "ffn,zero", "decoder_operations": None, "search_layers": 2}
DERIVED = {"_name": "dartsformer", "genotype": GENOTYPE.to_json(), "pooling": None}
EVOLVED = {"_name": "evolved_transformer", "attention_heads": 8, "encoder_layers": 6}


@pytest.mark.parametrize(
    ("trained", "changed"),
    [
        (SUPERNET, {"attention_heads": 4}),
        (SUPERNET, {"pooling": "avg"}),
        (SUPERNET, {"search_layers": 1}),
        (SUPERNET, {"encoder_operations": "ffn,identity"}),
        (SUPERNET, {"encoder_operations": "zero,ffn"}),
        (SUPERNET, {"decoder_operations": ",".join(reversed(DECODER_OPERATIONS))}),
        (SUPERNET | {"share_all_embeddings": False}, {"share_all_embeddings": True}),
        (SUPERNET | {"no_scale_embedding": True}, {"no_scale_embedding": False}),
        (DERIVED, {"genotype": every_operation_once(2, "max").to_json()}),
        (EVOLVED, {"attention_heads": 4}),
        (EVOLVED, {"encoder_layers": 4}),
        (EVOLVED | {"encoder_learned_pos": False}, {"encoder_learned_pos": True}),
    ],
)
def test_weights_of_another_network_are_refused(trained, changed):
    """Most of these leave the shapes of all tensors alone."""
    model = ARCH_MODEL_REGISTRY[trained["_name"]]
    (name,) = changed
    with pytest.raises(
        InputError, match=f"--{name.replace('_', '-')} is .*, but .* in the training"
    ):
        model.check_options(trained | changed, trained, "checkpoint.pt")


@pytest.mark.parametrize(
    ("trained", "changed"),
    [
        (SUPERNET, {"_name": "dartsformer_search_tiny", "encoder_operations": "ffn, zero"}),
        (SUPERNET, {"decoder_operations": ",".join(DECODER_OPERATIONS), "dropout": 0.3}),
        (SUPERNET, {"backprop": "store"}),
        (DERIVED, {"genotype": "paper_fig4_approx", "pooling": "max"}),
        (EVOLVED | {"dropout": 0.1}, {"dropout": 0.3}),
    ],
)
def test_weights_of_the_same_network_are_taken(trained, changed):
    model = ARCH_MODEL_REGISTRY[trained["_name"]]
    model.check_options(trained | changed, trained, "checkpoint.pt")


@torch.no_grad()
@pytest.mark.parametrize("layernorm_embedding", [False, True])
@pytest.mark.parametrize("build", [build_search, partial(build_derived, GENOTYPE)])
def test_half_precision_keeps_streams_in_float32(build, layernorm_embedding):
    torch.manual_seed(0)
    model = build(layernorm_embedding=layernorm_embedding).eval()
    exact = model(**batch([5, 7]))[0]
    model = model.bfloat16()
    streams = []
    model.decoder.stack.register_forward_hook(lambda module, args, out: streams.append(out.dtype))
    logits = model(**batch([5, 7]))[0]
    assert logits.dtype == torch.bfloat16 and streams == [torch.float32]
    torch.testing.assert_close(logits.float(), exact, rtol=0, atol=0.1)


def test_half_precision_leaves_alpha_alone():
    model = build_search()
    alpha = model.encoder.alpha.clone()
    model(**batch([3]))[0].sum().backward()
    model = model.bfloat16()
    assert model.encoder.alpha.dtype == model.encoder.alpha.grad.dtype == torch.float32
    assert torch.equal(model.encoder.alpha, alpha), "it was rounded on the way"
    assert model.double().float().encoder.alpha.dtype == torch.float32


def test_alpha_is_one_tensor_a_stack():
    model = build_search(encoder_splits=3, hidden_dim=120, search_layers=2)
    alphas = {name: tuple(p.shape) for name, p in model.named_parameters() if "alpha" in name}
    assert alphas == {"encoder.alpha": (2, 3, 13), "decoder.alpha": (2, 3, 14)}
    assert all(p.requires_grad for p in model.parameters())
    assert model.encoder.alpha.abs().max() < 0.01
