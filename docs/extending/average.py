"""`average`: the mean of all visible positions (after Zhang et al. 2018, arXiv:1805.00631)."""

from __future__ import annotations

import torch
from torch import Tensor

from fairseq_dartsformer.operations import Context, OperationConfig, register_operation
from fairseq_dartsformer.operations.base import Incremental, append, linear


@register_operation("average")
class Average(Incremental):
    """`mean_s(x_s) W + b` over the positions s that are visible from position t.

    In the encoder, all positions but padding are visible; in the decoder, those up to t.
    """

    def __init__(self, cfg: OperationConfig):
        super().__init__()
        self.causal = cfg.causal
        self.linear = linear(cfg.channels, cfg.channels)

    def forward(self, x: Tensor, context: Context, incremental_state=None) -> Tensor:
        """`T × B × C` to the same shape; reads ``context.padding_mask``."""
        seen = x
        if incremental_state is not None:
            # In incremental decoding x has only the last step; earlier steps were kept.
            seen = append(self.recall(incremental_state).get("x"), x)
            self.keep(incremental_state, x=seen)
        return self.linear(torch.einsum("bts,sbc->tbc", self._shares(x, seen, context), seen))

    def _shares(self, x: Tensor, seen: Tensor, context: Context) -> Tensor:
        """`B × T × S`: the weight of each of S positions in the mean at each of T.

        A matrix product, because a cumulative sum on a GPU differs in its last bits from run to
        run, and the reconstruction needs the same bits.
        """
        steps, batch, _ = x.shape
        visible = x.new_ones(batch, steps, len(seen))
        if self.causal:
            visible = visible.tril(len(seen) - steps)
        # In incremental decoding, no kept position is padding.
        if context.padding_mask is not None and len(seen) == steps:
            visible = visible * ~context.padding_mask[:, None, :]
        return visible / visible.sum(-1, keepdim=True).clamp(min=1)
