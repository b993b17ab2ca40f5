"""A derived model is its supernet, at a sharp alpha and at any choice."""

from random import Random

import pytest
import torch
from helpers.models import build_model, coders, inheriting, logits, step_by_step
from torch import nn

from fairseq_dartsformer.search.snapshot import Snapshot, derive
from fairseq_dartsformer.search_space.families import (
    DARTS_TRANSFORMER,
    DARTS_TRANSFORMER_LM,
    DARTSFORMER,
    DARTSFORMER_LM,
    Family,
)
from fairseq_dartsformer.search_space.sampling import chosen, draw

SEARCHED = [
    *((DARTSFORMER, n, pooling) for n in (2, 3) for pooling in ("max", "avg")),
    (DARTS_TRANSFORMER, 1, None),
    *((DARTSFORMER_LM, n, pooling) for n, pooling in ((2, "max"), (3, "avg"))),
    (DARTS_TRANSFORMER_LM, 1, None),
]


def searched(family: Family, splits: int, pooling: str | None) -> tuple[nn.Module, Snapshot]:
    """A supernet with sharp alphas, and what is read from its checkpoint."""
    torch.manual_seed(splits)
    options = {f"{family.stacks[0]}_splits": splits, "pooling": pooling} if family.pooled else {}
    supernet = build_model(family.supernet, hidden_dim=120, **options).double().eval()
    for coder in coders(supernet):
        nn.init.normal_(coder.alpha, std=1e6)
    alpha = {stack: getattr(supernet, stack).alpha for stack in family.stacks}
    candidates = {stack: family.candidates(stack) for stack in family.stacks}
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
    mixed = logits(supernet, NET)
    derived = inheriting(supernet, result, derive(result), hidden_dim=120)
    torch.testing.assert_close(logits(derived, NET), mixed, rtol=0, atol=1e-12)
    for seed in range(2):
        choice = draw(supernet, Random(seed))
        derived = inheriting(supernet, result, result.genotype(choice), hidden_dim=120)
        with chosen(supernet, choice):
            complete = logits(supernet, NET)
            steps = step_by_step(supernet, NET["src_tokens"], NET["prev_output_tokens"])
        assert torch.equal(logits(derived, NET), complete)
        torch.testing.assert_close(steps, complete, rtol=0, atol=1e-10)
        assert not torch.equal(complete, mixed)
    assert torch.equal(logits(supernet, NET), mixed)
