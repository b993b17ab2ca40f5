"""alpha and the genotype in TensorBoard and Weights & Biases."""

from __future__ import annotations

from typing import Any

import numpy as np
from fairseq.logging import progress_bar
from omegaconf import DictConfig

from ..search_space import entropy
from .outlook import Outlook

RUN = "alpha"  # beside fairseq's `train`, `train_inner` and `valid`


class Board:
    """Writes what the terminal's lines have no room for, where fairseq writes, too.

    Args:
        common: fairseq's options of that name, of which ``tensorboard_logdir`` and
            ``wandb_project`` say where to write, if anywhere.
    """

    def __init__(self, common: DictConfig):
        # It shows nothing itself, and has a writer of its own for each name that is logged to.
        self.bar = progress_bar.progress_bar(
            [], log_format="none", tensorboard_logdir=common.tensorboard_logdir
        )
        # Its run has begun with fairseq's own bar.
        self.wandb = progress_bar.wandb if common.wandb_project else None

    def show(self, outlook: Outlook, changed: int, new: bool) -> None:
        """Write an outlook.

        Scalars are the mixing weight of each candidate, grouped by node, the entropy of each node,
        and how many nodes changed or are skips. Histograms are of each stack's alpha.

        Args:
            outlook: what alpha says.
            changed: how many nodes changed since the last.
            new: whether the genotype is another than the last.
        """
        self.bar.log(scalars(outlook, changed), tag=RUN, step=outlook.result.updates)
        writer = progress_bar._tensorboard_writers.get(RUN)
        if writer is not None:
            self._to_tensorboard(writer, outlook, new)
        if self.wandb is not None:
            self._to_wandb(outlook, changed, new)

    def _to_tensorboard(self, writer, outlook: Outlook, new: bool) -> None:
        step = outlook.result.updates
        for stack, alpha in outlook.result.alpha.items():
            writer.add_histogram(stack, alpha.flatten().numpy(), step)
        if new:
            # Indented: text is Markdown there.
            text = outlook.genotype.to_json().splitlines(keepends=True)
            writer.add_text("genotype", "".join(f"    {line}" for line in text), step)
            writer.add_image("genotype", picture(outlook), step, dataformats="HWC")
        writer.flush()

    def _to_wandb(self, outlook: Outlook, changed: int, new: bool) -> None:
        values: dict[str, Any] = dict(scalars(outlook, changed))
        for stack, alpha in outlook.result.alpha.items():
            values[stack] = self.wandb.Histogram(alpha.flatten().tolist())
        if new:
            values["genotype"] = outlook.genotype.to_json()
            values["picture"] = self.wandb.Image(picture(outlook))
        named = {f"{RUN}/{name}": value for name, value in values.items()}
        self.wandb.log(named, step=outlook.result.updates)


def scalars(outlook: Outlook, changed: int) -> dict[str, float]:
    """Numbers by name, the part before the slash being the group that they are shown in."""
    result, found = outlook.result, {}
    for node in result.nodes():
        group = result.name(node).replace(" ", "_")
        for operation, weight in result.ranked(node):
            found[f"{group}/{operation}"] = weight
        found[f"entropy/{group}"] = float(entropy(result.alpha_of(node)))
    found["genotype/changed_nodes"] = changed
    found["genotype/skips"] = len(outlook.skips)
    return found


def picture(outlook: Outlook) -> np.ndarray:
    """The genotype as an image, H × W × 3 bytes: W&B takes figures of pyplot alone."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # matplotlib is slow to load

    from ..plots import genotype_figure

    canvas = FigureCanvasAgg(genotype_figure(outlook.genotype))
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3]
