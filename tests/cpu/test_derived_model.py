"""A derived model is its supernet, at a sharp alpha and at any choice."""

from random import Random

import pytest
import torch
from helpers.models import build_darts, build_search, inheriting, step_by_step
from torch import nn

from fairseq_dartsformer.operations import DECODER_OPERATIONS, ENCODER_OPERATIONS
from fairseq_dartsformer.search.snapshot import Snapshot, derive
from fairseq_dartsformer.search_space.families import DARTS_TRANSFORMER, DARTSFORMER, Family
from fairseq_dartsformer.search_space.sampling import chosen, draw

SEARCHED = [
    *((DARTSFORMER, n, pooling) for n in (2, 3) for pooling in ("max", "avg")),
    (DARTS_TRANSFORMER, 1, None),
]


def searched(family: Family, splits: int, pooling: str | None) -> tuple[nn.Module, Snapshot]:
    """A supernet with sharp alphas, and what is read from its checkpoint."""
    torch.manual_seed(splits)
    if family is DARTSFORMER:
        supernet = build_search(encoder_splits=splits, hidden_dim=120, pooling=pooling)
    else:
        supernet = build_darts(hidden_dim=120)
    supernet = supernet.double().eval()
    for stack in (supernet.encoder, supernet.decoder):
        nn.init.normal_(stack.alpha, std=1e6)
    alpha = {"encoder": supernet.encoder.alpha, "decoder": supernet.decoder.alpha}
    candidates = {"encoder": ENCODER_OPERATIONS, "decoder": DECODER_OPERATIONS}
    return supernet, Snapshot("checkpoint", 0, pooling, candidates, alpha, family)


NET = {
    "src_tokens": torch.randint(4, 30, (2, 7)),
    "src_lengths": torch.tensor([7, 7]),
    "prev_output_tokens": torch.randint(4, 30, (2, 6)),
}


@torch.no_grad()
@pytest.mark.parametrize(("family", "splits", "pooling"), SEARCHED, ids=str)
def test_derived_model_is_the_supernet(family, splits, pooling):
    """At a choice to the last bit, whatever alpha says; and decoding step by step, too."""
    supernet, result = searched(family, splits, pooling)
    mixed = supernet(**NET)[0]
    derived = inheriting(supernet, result, derive(result), hidden_dim=120)
    torch.testing.assert_close(derived(**NET)[0], mixed, rtol=0, atol=1e-12)
    for seed in range(2):
        choice = draw(supernet, Random(seed))
        derived = inheriting(supernet, result, result.genotype(choice), hidden_dim=120)
        with chosen(supernet, choice):
            logits = supernet(**NET)[0]
            steps = step_by_step(supernet, NET["src_tokens"], NET["prev_output_tokens"])
        assert torch.equal(derived(**NET)[0], logits)
        torch.testing.assert_close(steps, logits, rtol=0, atol=1e-10)
        assert not torch.equal(logits, mixed)
    assert torch.equal(supernet(**NET)[0], mixed)
