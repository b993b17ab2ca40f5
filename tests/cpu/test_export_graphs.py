"""The graphs of exported models compute what the models compute."""

from argparse import Namespace

import pytest
import torch
from fairseq.models import ARCH_CONFIG_REGISTRY
from fairseq.models.transformer import TransformerModel
from helpers.exports import MIXED
from helpers.models import Task, build_derived, uniform_genotype
from torch import nn

from fairseq_dartsformer.export.graphs import largest_difference, write_graphs
from fairseq_dartsformer.export.network import find_caches
from fairseq_dartsformer.export.replacements import prepared
from fairseq_dartsformer.search_space.genotype import Genotype


def transformer(**options) -> TransformerModel:
    sizes = {"embed_dim": 24, "ffn_embed_dim": 20, "attention_heads": 2, "layers": 1}
    both = {
        f"{stack}_{name}": size for stack in ("encoder", "decoder") for name, size in sizes.items()
    }
    positions = {"max_source_positions": 64, "max_target_positions": 64}
    args = Namespace(**both, **positions, **options)
    ARCH_CONFIG_REGISTRY["transformer"](args)
    return TransformerModel.build_model(args, Task())


PRE = {"encoder_normalize_before": True, "decoder_normalize_before": True}
LEARNED = {"encoder_learned_pos": True, "decoder_learned_pos": True}
TWO_SPLITS = Genotype(
    encoder=[["conv_11", "self_attention"], ["glu", "identity"], ["conv_5", "dynamic_conv_15"]],
    decoder=[["glu", "cross_attention"], ["self_attention", "cross_attention"]],
)
DYNAMIC = [f"dynamic_conv_{size}" for size in (3, 7, 11)]
MODELS = {  # every operation is in test_export_language_model.py; beside those of test_export.py
    "two splits": lambda: build_derived(TWO_SPLITS, hidden_dim=24, encoder_layers=3),
    "three splits": lambda: build_derived(
        uniform_genotype("dynamic_conv_3", 3, "avg"), **LEARNED, layernorm_embedding=True
    ),
    "four and five splits": lambda: build_derived(
        Genotype(
            [["ffn", "conv_3", "zero", "identity"], ["conv_7", *DYNAMIC]],
            [["conv_7", "ffn", "self_attention", "dynamic_conv_3", "cross_attention"]],
            norm="pre",
        ),
        hidden_dim=40,
        no_token_positional_embeddings=True,
        share_all_embeddings=True,
    ),
    "transformer with pre-norm": lambda: transformer(**PRE, **LEARNED),
}


@pytest.mark.parametrize("name", MODELS)
def test_graphs_equal_the_model(tmp_path, name):
    """For batches and lengths other than those that were traced."""
    torch.manual_seed(1)
    model = MODELS[name]().eval()
    vectors = [p for p in model.parameters() if p.dim() == 1]
    for vector in vectors:  # biases and norms, which begin as 0 and 1
        nn.init.normal_(vector, std=0.5)
    caches = write_graphs(model, tmp_path, int8=False)
    for lengths, steps in (((1,), 1), ((2,), 20), ((9, 4, 12, 1, 7, 3), 4)):
        assert largest_difference(model, tmp_path, caches, lengths, steps) < 1e-4
    for vector in vectors:
        nn.init.normal_(vector)
    assert largest_difference(model, tmp_path, caches) > 1e-3


def test_caches():
    """Keys and values grow, or follow the source; windows of convolutions do neither."""
    model = prepared(build_derived(MIXED))
    channels, heads = 24 // 3, model.decoder.stack.layers[0].nodes[1][0].operation.heads
    expected = {
        "layers.0.nodes.0.0.operation.x": (6, "batch", "width", channels),
        "layers.0.nodes.1.0.operation.k": (heads, "batch", "width", "past", channels // heads),
        "layers.0.nodes.2.0.operation.v": (heads, "batch", "source", channels // heads),
        "layers.1.nodes.0.0.operation.x": (4, "batch", "width", channels),
    }
    found = {cache.name.removeprefix("decoder.stack."): cache.shape for cache in find_caches(model)}
    assert expected.items() <= found.items() and len(found) == 10
