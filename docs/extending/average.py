"""`average`: the mean of all that a position sees (after Zhang et al. 2018, arXiv:1805.00631)."""

from __future__ import annotations

import torch
from torch import Tensor

from fairseq_dartsformer.operations import Context, OperationConfig, register_operation
from fairseq_dartsformer.operations.base import Incremental, append, linear


@register_operation("average")
class Average(Incremental):
    """`mean_s(x_s) W + b` over the positions s that position t sees.

    In the encoder these are all but padding, in the decoder those up to t.
    """

    def __init__(self, cfg: OperationConfig):
        super().__init__()
        self.causal = cfg.causal
        self.linear = linear(cfg.channels, cfg.channels)

    def forward(self, x: Tensor, context: Context, incremental_state=None) -> Tensor:
        """`T × B × C` to the same shape; reads ``context.padding_mask``."""
        seen = x
        if incremental_state is not None:
            # Step by step, x is the last step alone: those before it were kept.
            seen = append(self.recall(incremental_state).get("x"), x)
            self.keep(incremental_state, x=seen)
        return self.linear(torch.einsum("bts,sbc->tbc", self._shares(x, seen, context), seen))

    def _shares(self, x: Tensor, seen: Tensor, context: Context) -> Tensor:
        """`B × T × S`: what each of S positions contributes to the mean at each of T.

        A product with these and not a cumulative sum, which on GPUs gives other last bits each
        time: the reconstruction needs the same ones.
        """
        steps, batch, _ = x.shape
        visible = x.new_ones(batch, steps, len(seen))
        if self.causal:
            visible = visible.tril(len(seen) - steps)
        # Step by step the mask is the last one's alone, and of those kept none is padding.
        if context.padding_mask is not None and len(seen) == steps:
            visible = visible * ~context.padding_mask[:, None, :]
        return visible / visible.sum(-1, keepdim=True).clamp(min=1)
