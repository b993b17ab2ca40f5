"""The loss, computed without the logits of all tokens."""

from .chunked_label_smoothed_cross_entropy import ChunkedLabelSmoothedCrossEntropyCriterion

__all__ = ["ChunkedLabelSmoothedCrossEntropyCriterion"]
