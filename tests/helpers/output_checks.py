"""Properties of a network's output: causality, padding, batches, incremental decoding."""

from __future__ import annotations

import torch
from torch import nn

from helpers.models import batch, pad, sentence, shift, step_by_step

TOLERANCE = {"rtol": 0, "atol": 1e-10}


def check_causal(model: nn.Module) -> None:
    """A target position does not change the output at earlier positions."""
    net = batch([6, 9])
    before = model(**net)[0]
    for position in range(1, 9):
        changed = net["prev_output_tokens"].clone()
        changed[:, position] = (changed[:, position] + 7) % 30 + 4
        after = model(**{**net, "prev_output_tokens": changed})[0]
        torch.testing.assert_close(before[:, :position], after[:, :position], **TOLERANCE)


def check_padding(model: nn.Module) -> None:
    """Neither the batch nor padding, on the source's left or right, changes a sentence's output."""
    lengths = [1, 4, 20, 7]
    sources = [sentence(n, i) for i, n in enumerate(lengths)]
    targets = shift([sentence(n, 9 + i) for i, n in enumerate(reversed(lengths))])
    alone = [
        model(source[None], torch.tensor([len(source)]), target[None])[0][0]
        for source, target in zip(sources, targets, strict=True)
    ]
    for left, extra in ((True, 0), (False, 0), (True, 5)):
        padded = pad(sources, left, extra), torch.tensor(lengths), pad(targets, False, extra)
        for together, expected in zip(model(*padded)[0], alone, strict=True):
            torch.testing.assert_close(together[: len(expected)], expected, **TOLERANCE)


def check_steps(model: nn.Module) -> None:
    """Incremental decoding gives the output of the complete target."""
    for length in (1, 2, 5, 19):
        net = batch([length, length, 3])
        net["prev_output_tokens"] = pad(shift([sentence(length, i) for i in range(3)]))
        steps = step_by_step(model, net["src_tokens"], net["prev_output_tokens"])
        torch.testing.assert_close(steps, model(**net)[0], **TOLERANCE)


def check_beams(model: nn.Module) -> None:
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
        complete = model(source[sources], lengths[sources], tokens[:, : i + 1])[0]
        torch.testing.assert_close(step[:, 0], complete[:, -1], **TOLERANCE)
        tokens[:, i + 1 :] = tokens[:, i + 1 :].roll(1, 0)


OUTPUT_CHECKS = {
    "causal": check_causal,
    "padding": check_padding,
    "step by step": check_steps,
    "beams": check_beams,
}
