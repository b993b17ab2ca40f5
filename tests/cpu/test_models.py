"""What must hold of a network's output: causality, padding, batches, decoding step by step."""

import pytest
import torch
from helpers.models import (
    batch,
    build_darts,
    build_derived,
    build_evolved,
    build_search,
    every_operation_once,
    pad,
    sentence,
    shift,
    step_by_step,
    uniform_genotype,
)

from fairseq_dartsformer.operations import DECODER_OPERATIONS

POOLINGS = ["max", "avg"]
SPLITS = [2, 3, 4]
TOLERANCE = {"rtol": 0, "atol": 1e-10}

# Each operation by itself in a derived model, all of them in supernets, and all of them spread over
# a derived model; and the baseline.
CASES = [
    *[(f"supernet {n} {p}", n, p, None) for n in SPLITS for p in POOLINGS],
    *[(f"derived {n} {p} all", n, p, "all") for n in SPLITS for p in POOLINGS],
    ("darts supernet", 1, None, None),
    ("darts derived all", 1, None, "all"),
    ("evolved", 1, None, "evolved"),
    *[
        (f"derived {n} {o}", n, p, o)
        for o in DECODER_OPERATIONS
        for n, p in ((2, "max"), (3, "avg"))
    ],
]


@pytest.fixture(params=CASES, ids=[case[0] for case in CASES])
def model(request):
    _, splits, pooling, operation = request.param
    torch.manual_seed(splits)
    if operation is None:
        # 15-wide kernels, sharp alphas: every candidate matters.
        if pooling is None:
            built = build_darts(hidden_dim=120)
        else:
            built = build_search(encoder_splits=splits, hidden_dim=120, pooling=pooling)
        for stack in (built.encoder, built.decoder):
            torch.nn.init.normal_(stack.alpha)
    elif operation == "evolved":
        built = build_evolved(encoder_layers=4, decoder_layers=4)
        for parameter in built.parameters():  # biases, too
            torch.nn.init.normal_(parameter, std=0.3)
    elif operation == "all":
        genotype = every_operation_once(splits, pooling)
        layers = {"encoder_layers": len(genotype.encoder), "decoder_layers": len(genotype.decoder)}
        built = build_derived(genotype, hidden_dim=120, **layers)
    else:
        built = build_derived(uniform_genotype(operation, splits, pooling), hidden_dim=24)
    return built.double().eval()


@torch.no_grad()
def test_decoder_is_causal(model):
    net = batch([6, 9])
    before = model(**net)[0]
    for position in range(1, 9):
        changed = net["prev_output_tokens"].clone()
        changed[:, position] = (changed[:, position] + 7) % 30 + 4
        after = model(**{**net, "prev_output_tokens": changed})[0]
        torch.testing.assert_close(before[:, :position], after[:, :position], **TOLERANCE)


@torch.no_grad()
@pytest.mark.parametrize("left", [True, False])
def test_indifferent_to_batch_and_padding(model, left):
    lengths = [1, 4, 20, 7]
    sources = [sentence(n, i) for i, n in enumerate(lengths)]
    targets = shift([sentence(n, 9 + i) for i, n in enumerate(reversed(lengths))])
    for extra in (0, 5):
        together = model(
            pad(sources, left, extra), torch.tensor(lengths), pad(targets, False, extra)
        )[0]
        for i, (source, target) in enumerate(zip(sources, targets, strict=True)):
            alone = model(source[None], torch.tensor([len(source)]), target[None])[0][0]
            torch.testing.assert_close(together[i, : len(target)], alone, **TOLERANCE)


@torch.no_grad()
@pytest.mark.parametrize("length", [1, 2, 5, 19])
def test_step_by_step_equals_the_whole(model, length):
    net = batch([length, length, 3])
    net["prev_output_tokens"] = pad(shift([sentence(length, i) for i in range(3)]))
    whole = model(**net)[0]
    steps = step_by_step(model, net["src_tokens"], net["prev_output_tokens"])
    torch.testing.assert_close(steps, whole, **TOLERANCE)


@torch.no_grad()
def test_beams_may_be_reordered(model):
    """Two beams a sentence, swapped and copied within a sentence, then the batch shrinks."""
    source = pad([sentence(5, 0), sentence(8, 1)], left=True)
    encoder_out = model.encoder(source)
    encoder_out = model.encoder.reorder_encoder_out(encoder_out, torch.tensor([0, 0, 1, 1]))
    tokens = pad(shift([sentence(16, i) for i in range(4)]))
    state: dict = {}
    sources = torch.tensor([0, 0, 1, 1])
    orders = {3: [1, 0, 2, 3], 6: [0, 0, 3, 3], 11: [2, 3], 13: [1, 1]}
    for i in range(16):
        if i in orders:
            order = torch.tensor(orders[i])
            tokens, sources = tokens[order], sources[order]
            model.decoder.reorder_incremental_state_scripting(state, order)
            encoder_out = model.encoder.reorder_encoder_out(encoder_out, order)
        step = model.decoder(tokens[:, : i + 1], encoder_out, incremental_state=state)[0]
        lengths = source.ne(1).sum(1)
        whole = model(source[sources], lengths[sources], tokens[:, : i + 1])[0]
        torch.testing.assert_close(step[:, 0], whole[:, -1], **TOLERANCE)
        tokens[:, i + 1 :] = tokens[:, i + 1 :].roll(1, 0)
