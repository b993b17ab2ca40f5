"""Logs alpha and the genotype to TensorBoard and Weights & Biases."""

from __future__ import annotations

from textwrap import indent
from typing import Any

import numpy as np
from fairseq.logging import progress_bar

from ..search_space.alpha import entropy
from ..search_space.genotype import Genotype
from .snapshot import Snapshot

RUN = "alpha"  # beside fairseq's `train`, `train_inner` and `valid`


class AlphaWriter:
    """Writes snapshots where fairseq writes its own statistics: to the folder of TensorBoard, if
    there is one, and to Weights & Biases, if fairseq has started a run."""

    def __init__(self, tensorboard_logdir: str | None, wandb: bool):
        # This bar prints nothing; it keeps a writer for each tag.
        self.bar = progress_bar.progress_bar(
            [], log_format="none", tensorboard_logdir=tensorboard_logdir
        )
        self.wandb = progress_bar.wandb if wandb else None

    def write(self, snapshot: Snapshot, genotype: Genotype, changed: int, new: bool) -> None:
        """Write :func:`scalars`, a histogram of each stack's alpha and, if ``new``, the genotype as
        text and image; ``changed`` nodes have changed since the last snapshot."""
        step, values = snapshot.updates, scalars(snapshot, changed)
        self.bar.log(values, tag=RUN, step=step)
        writer = progress_bar._tensorboard_writers.get(RUN)
        if writer is not None:
            for stack, alpha in snapshot.alpha.items():
                writer.add_histogram(stack, alpha.flatten().numpy(), step)
            if new:
                code = indent(genotype.to_json(), "    ")  # a code block in Markdown
                writer.add_text("genotype", code, step)
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
    """Return a snapshot's numbers by ``group/name``: mixing weights and entropy of every node, and
    how many nodes changed, and how many have a best operation that computes nothing."""
    found: dict[str, float] = {}
    for node in snapshot.nodes():
        group = snapshot.name(node).replace(" ", "_")
        for operation, weight in snapshot.ranked(node):
            found[f"{group}/{operation}"] = weight
        found[f"entropy/{group}"] = float(entropy(snapshot.weights_of(node)))
    found["genotype/changed_nodes"] = changed
    found["genotype/skips"] = len(snapshot.skips)
    return found


def picture(genotype: Genotype) -> np.ndarray:
    """Draw the genotype as an image, H × W × 3 bytes; W&B accepts no figures but pyplot's."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # matplotlib is slow to load

    from ..plots import genotype_figure

    canvas = FigureCanvasAgg(genotype_figure(genotype))
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3]
