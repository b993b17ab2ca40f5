"""Tables of latencies that nobody measured."""

from __future__ import annotations

from random import Random
from typing import Any

from fairseq_dartsformer.operations import OPERATIONS_BY_STACK
from fairseq_dartsformer.search_space.latency_table import LatencyTable

# The network of `fairseq_commands.SEARCH`.
NETWORK = {
    "family": "dartsformer",
    "embed_dim": 8,
    "hidden_dim": 24,
    "ffn_dim": 16,
    "attention_heads": 2,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "operation_norm": "post",
    "encoder_splits": 2,
    "decoder_splits": 3,
    "pooling": "max",
}
# The options of its sizes.
TINY = (
    "--embed-dim 8 --hidden-dim 24 --ffn-dim 16 --encoder-layers 2 --decoder-layers 2 "
    "--attention-heads 2 --share-all-embeddings --cpu"
)
DARTS_NETWORK = {
    name: value for name, value in NETWORK.items() if name not in list(NETWORK)[-3:]
} | {"family": "darts_transformer"}


def latency_table(network: dict[str, Any] = NETWORK, vocabulary: int = 48, **other: Any):
    """A table in which ``zero`` costs nothing and every other operation from 1 to 2 ms."""
    draw = Random(1).uniform
    operations = {
        stack: {name: 0.0 if name == "zero" else round(draw(1, 2), 6) for name in names}
        for stack, names in OPERATIONS_BY_STACK.items()
    }
    fields = {"device": "none", "precision": "float32", "sentences": 1, "beam": 5, "length": 20}
    fields |= {"vocabulary": vocabulary, "network": network, "operations": operations}
    return LatencyTable(**fields | {"fixed": {"encoder": 1.5, "decoder": 3.0}} | other)
