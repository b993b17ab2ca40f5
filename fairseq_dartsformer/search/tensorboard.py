"""alpha and the genotype in TensorBoard and Weights & Biases."""

from __future__ import annotations

from typing import Any

import numpy as np
from fairseq.logging import progress_bar

from ..search_space.alpha import entropy
from ..search_space.genotype import Genotype
from .snapshot import Snapshot

RUN = "alpha"  # beside fairseq's `train`, `train_inner` and `valid`


class AlphaWriter:
    """Writes snapshots where fairseq writes its own statistics.

    Args:
        tensorboard_logdir: folder of the events, or ``None``.
        wandb: whether fairseq has begun a run of Weights & Biases.
    """

    def __init__(self, tensorboard_logdir: str | None, wandb: bool):
        # This bar shows nothing; it has a writer for each name that is logged to.
        self.bar = progress_bar.progress_bar(
            [], log_format="none", tensorboard_logdir=tensorboard_logdir
        )
        self.wandb = progress_bar.wandb if wandb else None

    def write(self, snapshot: Snapshot, genotype: Genotype, changed: int, new: bool) -> None:
        """Write a snapshot.

        Scalars are each candidate's mixing weight, grouped by node, each node's entropy, and the
        numbers of nodes that changed and that are skips. Histograms are of each stack's alpha.

        Args:
            snapshot: alpha.
            genotype: what is derived from it.
            changed: how many nodes changed since the last snapshot.
            new: whether the genotype differs from the last one.
        """
        step, values = snapshot.updates, scalars(snapshot, changed)
        self.bar.log(values, tag=RUN, step=step)
        writer = progress_bar._tensorboard_writers.get(RUN)
        if writer is not None:
            for stack, alpha in snapshot.alpha.items():
                writer.add_histogram(stack, alpha.flatten().numpy(), step)
            if new:
                # Indented: text is Markdown there.
                text = genotype.to_json().splitlines(keepends=True)
                writer.add_text("genotype", "".join(f"    {line}" for line in text), step)
                writer.add_image("genotype", picture(genotype), step, dataformats="HWC")
            writer.flush()
        if self.wandb is not None:
            logged: dict[str, Any] = dict(values)
            for stack, alpha in snapshot.alpha.items():
                logged[stack] = self.wandb.Histogram(alpha.flatten().tolist())
            if new:
                logged["genotype"] = genotype.to_json()
                logged["picture"] = self.wandb.Image(picture(genotype))
            self.wandb.log({f"{RUN}/{name}": v for name, v in logged.items()}, step=step)


def scalars(snapshot: Snapshot, changed: int) -> dict[str, float]:
    """Numbers by name; the part before the slash is the group in which they are shown."""
    found: dict[str, float] = {}
    for node in snapshot.nodes():
        group = snapshot.name(node).replace(" ", "_")
        for operation, weight in snapshot.ranked(node):
            found[f"{group}/{operation}"] = weight
        found[f"entropy/{group}"] = float(entropy(snapshot.alpha_of(node)))
    found["genotype/changed_nodes"] = changed
    found["genotype/skips"] = len(snapshot.skips)
    return found


def picture(genotype: Genotype) -> np.ndarray:
    """The genotype as an image, H × W × 3 bytes: W&B takes only pyplot's figures."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # matplotlib is slow to load

    from ..plots import genotype_figure

    canvas = FigureCanvasAgg(genotype_figure(genotype))
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3]
