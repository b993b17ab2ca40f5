"""`chunked_label_smoothed_cross_entropy`: fairseq's loss, from features instead of logits."""

from typing import Any, NamedTuple

from fairseq.criterions import register_criterion
from fairseq.criterions.label_smoothed_cross_entropy import (
    LabelSmoothedCrossEntropyCriterion,
    LabelSmoothedCrossEntropyCriterionConfig,
)
from torch import Tensor, nn

from ..errors import InputError
from .linear_cross_entropy import count_correct, smoothed_cross_entropy

NAME = "chunked_label_smoothed_cross_entropy"


class _Losses(NamedTuple):
    """The output layer's result in place of logits: sums over the tokens."""

    loss: Tensor
    nll_loss: Tensor
    correct: Tensor | None


@register_criterion(NAME, dataclass=LabelSmoothedCrossEntropyCriterionConfig)
class ChunkedLabelSmoothedCrossEntropyCriterion(LabelSmoothedCrossEntropyCriterion):
    """`label_smoothed_cross_entropy` in less memory: same options, statistics and gradients.

    For models whose decoder calls ``output_layer``, which applies a linear ``output_projection``:
    ours, and fairseq's transformers. The loss takes the place of the logits within the model's
    forward pass, where wrappers for several workers expect all parameters to be used.
    """

    def forward(self, model, sample, reduce: bool = True):
        """Compute the loss of a batch; arguments and results as in the base class. A model with
        another kind of output layer raises an :class:`InputError`."""
        if not reduce:  # a loss for every token
            return super().forward(model, sample, reduce)
        target = model.get_targets(sample, None)[:, self.ignore_prefix_size :].flatten()

        def output_layer(features: Tensor, **unused: Any) -> _Losses:
            features = features[:, self.ignore_prefix_size :].flatten(0, 1)
            layer = (projection.weight, projection.bias, target)
            losses = smoothed_cross_entropy(features, *layer, self.eps, self.padding_idx)
            correct = None
            if self.report_accuracy:
                correct = count_correct(features, *layer, self.padding_idx)
            return _Losses(*losses, correct)

        decoder = getattr(model, "decoder", None)
        projection = getattr(decoder, "output_projection", None)
        if not isinstance(projection, nn.Linear):
            raise _unsuited(decoder)
        decoder.output_layer = output_layer  # of this instance, for this batch
        try:
            losses, *_ = model(**sample["net_input"])
        finally:
            del decoder.output_layer
        if not isinstance(losses, _Losses):
            raise _unsuited(decoder)
        sample_size = sample["target"].size(0) if self.sentence_avg else sample["ntokens"]
        log = {
            "loss": losses.loss.data,
            "nll_loss": losses.nll_loss.data,
            "ntokens": sample["ntokens"],
            "nsentences": sample["target"].size(0),
            "sample_size": sample_size,
        }
        if self.report_accuracy:
            log["n_correct"] = losses.correct.item()
            log["total"] = target.ne(self.padding_idx).sum().item()
        return losses.loss, sample_size, log


def _unsuited(decoder: nn.Module | None) -> InputError:
    return InputError(
        f"--criterion {NAME} needs a decoder that calls output_layer, with a linear "
        f"output_projection, which {type(decoder).__name__} does not: use "
        "label_smoothed_cross_entropy"
    )
