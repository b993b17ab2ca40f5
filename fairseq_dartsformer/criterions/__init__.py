"""The loss, and the output layer that it needs no logits of."""

from .chunked_label_smoothed_cross_entropy import ChunkedLabelSmoothedCrossEntropyCriterion

__all__ = ["ChunkedLabelSmoothedCrossEntropyCriterion"]
