"""`chunked_label_smoothed_cross_entropy`: fairseq's loss, from features instead of logits."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from fairseq.criterions import register_criterion
from fairseq.criterions.label_smoothed_cross_entropy import (
    LabelSmoothedCrossEntropyCriterion,
    LabelSmoothedCrossEntropyCriterionConfig,
)
from torch import Tensor, nn

from ..errors import InputError
from .linear_cross_entropy import count_correct, smoothed_cross_entropy

NAME = "chunked_label_smoothed_cross_entropy"


@register_criterion(NAME, dataclass=LabelSmoothedCrossEntropyCriterionConfig)
class ChunkedLabelSmoothedCrossEntropyCriterion(LabelSmoothedCrossEntropyCriterion):
    """Options, loss, figures and gradients of `label_smoothed_cross_entropy`, in less memory.

    For every model whose decoder's ``output_layer`` applies an ``output_projection``: ours, and
    fairseq's transformers. The loss is computed within the model's forward pass, in the place of
    the logits, so that wrappers for several workers see every parameter used where they expect it.
    """

    def forward(self, model, sample, reduce: bool = True):
        """The loss of a batch; arguments and results as fairseq's.

        Raises:
            InputError: the model has another kind of output layer.
        """
        if not reduce:  # a loss for every token
            return super().forward(model, sample, reduce)
        target = model.get_targets(sample, None)[:, self.ignore_prefix_size :].flatten()

        def output_layer(features: Tensor, **unused: Any) -> tuple[Tensor, ...]:
            features = features[:, self.ignore_prefix_size :].flatten(0, 1)
            layer = (projection.weight, projection.bias, target)
            losses = smoothed_cross_entropy(features, *layer, self.eps, self.padding_idx)
            if self.report_accuracy:
                losses += (count_correct(features, *layer, self.padding_idx),)
            return losses

        with _replaced(model.decoder, output_layer) as projection:
            (loss, nll_loss, *correct), _ = model(**sample["net_input"])
        sample_size = sample["target"].size(0) if self.sentence_avg else sample["ntokens"]
        log = {
            "loss": loss.data,
            "nll_loss": nll_loss.data,
            "ntokens": sample["ntokens"],
            "nsentences": sample["target"].size(0),
            "sample_size": sample_size,
        }
        if self.report_accuracy:
            log["n_correct"] = correct[0].item()
            log["total"] = target.ne(self.padding_idx).sum().item()
        return loss, sample_size, log


@contextmanager
def _replaced(decoder: nn.Module, output_layer: Callable[..., Any]) -> Iterator[nn.Linear]:
    """Put ``output_layer`` in place of the decoder's own; give its projection."""
    projection = getattr(decoder, "output_projection", None)
    if not (isinstance(projection, nn.Linear) and hasattr(decoder, "output_layer")):
        raise InputError(
            f"--criterion {NAME} needs a model with a linear output layer, "
            f"{type(decoder).__name__} has none: use label_smoothed_cross_entropy"
        )
    decoder.output_layer = output_layer
    try:
        yield projection
    finally:
        del decoder.output_layer
