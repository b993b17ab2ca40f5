"""ONNX graphs of the encoder and of a step of the decoder."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from fairseq.models import FairseqEncoderDecoderModel
from onnxruntime.quantization import QuantType, quantize_dynamic
from torch import nn
from torch.export import Dim

from ..errors import InputError
from .network import Cache, Decoder, Encoder, find_caches, prepared

OPSET = 20
TOLERANCE = 1e-3  # of log-probabilities
# Any numbers but 0 and 1, which torch takes for constants.
TRACED = {"batch": 3, "source": 5, "past": 4}


@torch.no_grad()
def write_graphs(model: FairseqEncoderDecoderModel, folder: Path, int8: bool) -> list[Cache]:
    """Write ``encoder.onnx`` and ``decoder.onnx``; return the caches, in the decoder's order.

    Args:
        model: of translation.
        folder: an existing one.
        int8: whether to quantise the weights of matrix products.

    Raises:
        InputError: the graphs do not compute what the model computes.
    """
    plain = prepared(model)
    caches = find_caches(plain)
    tokens = torch.full((TRACED["batch"], TRACED["source"]), model.encoder.dictionary.eos())
    mask, step = torch.zeros(tokens.shape, dtype=torch.bool), torch.zeros(1, dtype=torch.long)
    dims = {name: Dim(name) for name in TRACED}
    of_tokens = {0: dims["batch"], 1: dims["source"]}
    of_caches = [
        {i: dims[size] for i, size in enumerate(cache.shape) if size in dims} for cache in caches
    ]
    names = [cache.name for cache in caches]
    of_source = [cache.name for cache in caches if cache.of_source]
    own = [f"next.{cache.name}" for cache in caches if not cache.of_source]
    _export(
        Encoder(plain, caches),
        (tokens,),
        folder / "encoder.onnx",
        input_names=["tokens"],
        output_names=["mask", *of_source],
        dynamic_shapes=(of_tokens,),
    )
    _export(
        Decoder(plain, caches),
        (tokens[:, 0], step, mask, [cache.zeros(**TRACED) for cache in caches]),
        folder / "decoder.onnx",
        input_names=["tokens", "step", "mask", *names],
        output_names=["scores", *own],
        dynamic_shapes=({0: dims["batch"]}, {}, of_tokens, of_caches),
    )
    _compare(model, folder, caches)
    if int8:
        for path in (folder / "encoder.onnx", folder / "decoder.onnx"):
            with _quiet():
                quantize_dynamic(
                    path, path, weight_type=QuantType.QInt8, op_types_to_quantize=["MatMul", "Gemm"]
                )
    return caches


def _export(module: nn.Module, inputs: tuple, path: Path, **names: Any) -> None:
    with _quiet():
        program = torch.onnx.export(
            module, inputs, dynamo=True, opset_version=OPSET, verbose=False, **names
        )
        program.save(path, external_data=False)


@contextmanager
def _quiet() -> Iterator[None]:
    """Leave out the libraries' progress and advice."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def _compare(model: FairseqEncoderDecoderModel, folder: Path, caches: list[Cache]) -> None:
    """Decode random tokens with the graphs and with the model; raise an :class:`InputError` if the
    results differ."""
    difference = largest_difference(model, folder, caches)
    if not difference <= TOLERANCE:
        raise InputError(
            f"the exported graphs differ from the model by {difference:.1e} in log-probabilities, "
            f"more than {TOLERANCE:.0e}: an operation or option of the model cannot be exported"
        )


@torch.no_grad()
def largest_difference(
    model: FairseqEncoderDecoderModel,
    folder: Path,
    caches: list[Cache],
    lengths: tuple[int, ...] = (7, 3, 5, 1),
    steps: int = 20,
) -> float:
    """Decode random tokens with the graphs in ``folder`` and with the model, step by step.

    Args:
        model: of translation.
        folder: has ``encoder.onnx`` and ``decoder.onnx``.
        caches: the decoder's.
        lengths: of the sources of a batch.
        steps: to decode, if the model can decode so many.

    Returns:
        the largest difference of log-probabilities; infinity if one is not finite.
    """
    model = model.float().eval()
    dictionary = model.encoder.dictionary
    random = np.random.default_rng(1)
    source = np.full((len(lengths), max(lengths)), dictionary.pad())
    for row, length in zip(source, lengths, strict=True):
        row[:length] = random.integers(dictionary.nspecial, len(dictionary), length)
    width = len(model.decoder.dictionary)
    steps = min(steps, model.decoder.max_positions())
    target = random.integers(dictionary.nspecial, width, (len(lengths), steps))
    sessions = {
        name: onnxruntime.InferenceSession(
            folder / f"{name}.onnx", providers=["CPUExecutionProvider"]
        )
        for name in ("encoder", "decoder")
    }
    mask, *of_source = sessions["encoder"].run(None, {"tokens": source})
    given = iter(of_source)
    values = {
        cache.name: next(given)
        if cache.of_source
        else cache.zeros(batch=len(lengths), past=0).numpy()
        for cache in caches
    }
    encoder_out = model.encoder(torch.from_numpy(source), torch.tensor(lengths))
    expected = model.decoder(torch.from_numpy(target), encoder_out)[0].log_softmax(-1).numpy()
    own = [cache.name for cache in caches if not cache.of_source]
    difference = 0.0
    for step in range(steps):
        inputs = {"tokens": target[:, step], "step": np.array([step]), "mask": mask, **values}
        scores, *new = sessions["decoder"].run(None, inputs)
        values |= dict(zip(own, new, strict=True))
        difference = max(difference, float(np.abs(scores - expected[:, step]).max()))
    return difference if np.isfinite(difference) else float("inf")
