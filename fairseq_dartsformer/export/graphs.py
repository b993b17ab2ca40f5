"""ONNX graphs of the encoder, if there is one, and of a step of the decoder."""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from fairseq.models import BaseFairseqModel
from onnxruntime.quantization import QuantType, quantize_dynamic
from onnxscript.optimizer import optimize_ir
from torch import nn
from torch.export import Dim

from ..errors import InputError
from .network import Cache, Decoder, Encoder, find_caches, has_encoder
from .replacements import prepared

OPSET = 20
SCORES = ("scores", "likely.scores", "likely.tokens")  # outputs of the decoder before its caches
WIDTH = 2  # hypotheses of a line, when graphs are compared with the model
TOLERANCE = 1e-3  # of log-probabilities
# Any numbers but 0 and 1, which torch takes for constants.
TRACED = {"batch": 3, "width": 2, "source": 5, "past": 4, "likely": 2}


@torch.no_grad()
def write_graphs(model: BaseFairseqModel, folder: Path, int8: bool) -> list[Cache]:
    """Write ``decoder.onnx`` and, if there is an encoder, ``encoder.onnx``; return the caches, in
    the decoder's order.

    Args:
        model: of translation, or a language model, which has no encoder.
        folder: an existing one.
        int8: whether to quantise the weights of matrix products.

    Raises:
        InputError: the graphs do not compute what the model computes.
    """
    plain = prepared(model)
    try:
        caches = find_caches(plain)
    except RuntimeError as error:  # of an operation that expects a source for each hypothesis
        raise InputError(f"the model has an operation that cannot be exported: {error}") from error
    tokens = torch.full((TRACED["batch"], TRACED["source"]), model.decoder.dictionary.eos())
    dims = {name: Dim(name) for name in TRACED}
    dims["likely"] = Dim("likely", max=len(model.decoder.dictionary))
    of_tokens = {0: dims["batch"], 1: dims["source"]}
    of_caches = [
        {i: dims[size] for i, size in enumerate(cache.shape) if size in dims} for cache in caches
    ]
    step, likely = tokens.new_zeros(1), tokens.new_zeros(TRACED["likely"])
    values = [cache.zeros(**TRACED) for cache in caches]
    inputs = [tokens[:, : TRACED["width"]].clone(), step, likely, values]
    shapes = [{0: dims["batch"], 1: dims["width"]}, {}, {0: dims["likely"]}, of_caches]
    names = ["tokens", "step", "likely", *(cache.name for cache in caches)]
    paths = [folder / "decoder.onnx"]
    if has_encoder(model):
        paths.append(folder / "encoder.onnx")
        _export(
            Encoder(plain, caches),
            (tokens,),
            paths[-1],
            int8,
            input_names=["tokens"],
            output_names=["mask", *(cache.name for cache in caches if cache.of_source)],
            dynamic_shapes=(of_tokens,),
        )
        inputs.append(torch.zeros(tokens.shape, dtype=torch.bool))
        shapes.append(of_tokens)
        names.append("mask")
    _export(
        Decoder(plain, caches),
        tuple(inputs),
        paths[0],
        int8,
        input_names=names,
        output_names=[*SCORES, *(f"next.{c.name}" for c in caches if not c.of_source)],
        dynamic_shapes=tuple(shapes),
    )
    _compare(model, folder, caches)
    if int8:
        for path in paths:
            with _quiet():
                quantize_dynamic(
                    path, path, weight_type=QuantType.QInt8, op_types_to_quantize=["MatMul", "Gemm"]
                )
    return caches


def _export(module: nn.Module, inputs: tuple, path: Path, fold: bool, **names: Any) -> None:
    """Write a graph; ``fold`` stores all transposed weights, since only constants are quantised."""
    with _quiet():
        program = torch.onnx.export(
            module, inputs, dynamo=True, opset_version=OPSET, verbose=False, **names
        )
        if fold:
            optimize_ir(
                program.model,
                output_size_limit=sys.maxsize,
                should_fold=lambda node: node.op_type == "Transpose" or None,
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


def _compare(model: BaseFairseqModel, folder: Path, caches: list[Cache]) -> None:
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
    model: BaseFairseqModel,
    folder: Path,
    caches: list[Cache],
    lengths: tuple[int, ...] = (7, 3, 5, 1),
    steps: int = 20,
) -> float:
    """Decode random tokens with the graphs in ``folder`` and with the model, step by step, two
    hypotheses of each line.

    Args:
        model: of translation, or a language model, which has no encoder.
        folder: has ``decoder.onnx``, and ``encoder.onnx`` if the model has an encoder.
        caches: the decoder's.
        lengths: of the sources of a batch; for a language model, their number alone matters.
        steps: to decode, if the model can decode so many.

    Returns:
        the largest difference of log-probabilities; infinity if one is not finite.
    """
    model = model.float().eval()
    dictionary = model.decoder.dictionary
    random = np.random.default_rng(1)
    steps = min(steps, model.decoder.max_positions())
    shape = len(lengths), WIDTH, steps
    target = random.integers(dictionary.nspecial, len(dictionary), shape)
    own = [cache for cache in caches if not cache.of_source]
    start = {"batch": len(lengths), "width": WIDTH, "past": 0}
    values = {cache.name: cache.zeros(**start).numpy() for cache in own}
    context = []
    if has_encoder(model):
        words = model.encoder.dictionary
        source = np.full((len(lengths), max(lengths)), words.pad())
        for row, length in zip(source, lengths, strict=True):
            row[:length] = random.integers(words.nspecial, len(words), length)
        names = ["mask", *(cache.name for cache in caches if cache.of_source)]
        found = _session(folder / "encoder.onnx").run(None, {"tokens": source})
        values |= dict(zip(names, found, strict=True))
        rows = (
            torch.from_numpy(source.repeat(WIDTH, 0)),
            torch.tensor(lengths).repeat_interleave(WIDTH),
        )
        context = [model.encoder(*rows)]
    words = torch.from_numpy(target).flatten(0, 1)
    expected = model.decoder(words, *context)[0].log_softmax(-1).numpy()
    decoder = _session(folder / "decoder.onnx")
    difference = 0.0
    for step in range(steps):
        inputs = {"tokens": target[:, :, step], "step": np.array([step]), **values}
        inputs["likely"] = np.zeros(len(dictionary) // 2, int)
        scores, likely, tokens, *new = decoder.run(None, inputs)
        values |= dict(zip((cache.name for cache in own), new, strict=True))
        pairs = (scores, expected[:, step]), (likely, np.take_along_axis(scores, tokens, 1))
        difference = max(difference, *(float(np.abs(a - b).max()) for a, b in pairs))
    return difference if np.isfinite(difference) else float("inf")


def _session(path: Path) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
