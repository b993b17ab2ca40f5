"""Properties of a network's output: causality, padding, batches, incremental decoding."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

from helpers.models import batch, logits, pad, sentence, shift, step_by_step

TOLERANCE = {"rtol": 0, "atol": 1e-10}


def check_causal(model: nn.Module) -> None:
    """A target position does not change the output at earlier positions."""
    net = batch([6, 9])
    before, positions = logits(model, net), range(1, 9)
    many = {name: torch.cat([value] * len(positions)) for name, value in net.items()}
    changed = many["prev_output_tokens"].chunk(len(positions))  # views
    for position, tokens in zip(positions, changed, strict=True):
        tokens[:, position] = (tokens[:, position] + 7) % 30 + 4
    after = logits(model, many).chunk(len(positions))
    for position, found in zip(positions, after, strict=True):
        torch.testing.assert_close(before[:, :position], found[:, :position], **TOLERANCE)


def check_padding(model: nn.Module) -> None:
    """Neither the batch nor padding, on the source's left or right, changes a sentence's output."""
    lengths = [1, 4, 20, 7]
    sources = [sentence(n, i) for i, n in enumerate(lengths)]
    targets = shift([sentence(n, 9 + i) for i, n in enumerate(reversed(lengths))])

    def outputs(sources: Tensor, lengths: list[int], targets: Tensor) -> Tensor:
        names = ("src_tokens", "src_lengths", "prev_output_tokens")
        values = (sources, torch.tensor(lengths), targets)
        return logits(model, dict(zip(names, values, strict=True)))

    alone = [
        outputs(source[None], [len(source)], target[None])[0]
        for source, target in zip(sources, targets, strict=True)
    ]
    for left, extra in ((True, 0), (False, 0), (True, 5)):
        padded = outputs(pad(sources, left, extra), lengths, pad(targets, False, extra))
        for together, expected in zip(padded, alone, strict=True):
            torch.testing.assert_close(together[: len(expected)], expected, **TOLERANCE)


def check_steps(model: nn.Module) -> None:
    """Incremental decoding gives the output of the complete target."""
    for length in (1, 19):
        net = batch([length, length, 3])
        net["prev_output_tokens"] = pad(shift([sentence(length, i) for i in range(3)]))
        steps = step_by_step(model, net["src_tokens"], net["prev_output_tokens"])
        torch.testing.assert_close(steps, logits(model, net), **TOLERANCE)


def check_beams(model: nn.Module) -> None:
    """Two beams a sentence, swapped and copied within a sentence, then the batch shrinks."""
    source = pad([sentence(5, 0), sentence(8, 1)], left=True)

    def reordered(encoder_out: dict | None, order: Tensor) -> dict | None:
        return encoder_out and model.encoder.reorder_encoder_out(encoder_out, order)

    encoder_out = model.encoder(source) if hasattr(model, "encoder") else None
    encoder_out = reordered(encoder_out, torch.tensor([0, 0, 1, 1]))
    tokens = pad(shift([sentence(16, i) for i in range(4)]))
    state: dict = {}
    sources = torch.tensor([0, 0, 1, 1])
    orders = {3: [1, 0, 2, 3], 6: [0, 0, 3, 3], 11: [2, 3], 13: [1, 1]}
    for begin, end in pairwise([0, *orders, 16]):
        if begin in orders:
            order = torch.tensor(orders[begin])
            tokens, sources = tokens[order], sources[order]
            model.decoder.reorder_incremental_state_scripting(state, order)
            encoder_out = reordered(encoder_out, order)
        steps = []
        for i in range(begin, end):
            given = tokens[:, : i + 1], encoder_out
            steps.append(model.decoder(*given, incremental_state=state)[0])
            tokens[:, i + 1 :] = tokens[:, i + 1 :].roll(1, 0)
        lengths = source.ne(1).sum(1)
        net = {"src_tokens": source[sources], "src_lengths": lengths[sources]}
        complete = logits(model, {**net, "prev_output_tokens": tokens[:, :end]})
        torch.testing.assert_close(torch.cat(steps, 1), complete[:, begin:end], **TOLERANCE)


OUTPUT_CHECKS = {
    "causal": check_causal,
    "padding": check_padding,
    "step by step": check_steps,
    "beams": check_beams,
}
