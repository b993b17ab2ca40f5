"""The distribution of random genotypes' losses, and where each strategy's seeds lie in it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from comparing import Line
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from fairseq_dartsformer.plots.style import FONT, GREY, INK, save

BLUE = "#0072b2"
LOOKS = (("#d55e00", "-"), ("#e69f00", "--"), ("#009e73", "-."), ("#cc79a7", ":"))
SHADES = {(5, 95): 0.13, (25, 75): 0.18}  # opacity by percentiles
ROW = 0.21  # inches


def draw(losses: np.ndarray, lines: Sequence[Line], path: Path) -> None:
    """Write :func:`picture` as SVG; equal pictures give equal bytes."""
    save(picture(losses, lines), path, "svg")


def picture(losses: np.ndarray, lines: Sequence[Line]) -> Figure:
    """Draw the distribution of ``losses``, below it one row a strategy, and baselines as lines.

    The axis ends half the random genotypes' range beyond them. A seed beyond it is an arrow at the
    edge, with its loss; of such a baseline the legend alone has the loss.

    Args:
        losses: of the random genotypes, in bits.
        lines: in the order of the rows, from the top.
    """
    strategies = [line for line in lines if line.cost is not None]
    baselines = [line for line in lines if line.cost is None]
    heights = (1.2, ROW * (len(strategies) + 1))
    legend_height = 0.2 * (1 + len(baselines) // 3)
    figure = Figure(figsize=(7, sum(heights) + 0.6 + legend_height), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=heights)
    spare = np.ptp(losses) / 2
    ends = (losses.min() - spare, losses.max() + spare)
    above.set_xlim(ends)
    handles = _shared(above, below, losses, baselines, ends)
    _distribution(above, losses)
    for y, line in enumerate(strategies):
        _strategy(below, y, line, ends)
    below.set_yticks(range(len(strategies)), [line.name.replace("_", " ") for line in strategies])
    below.set_ylim(len(strategies) - 0.4, -0.6)
    below.set_xlabel("validation loss (bits)", fontsize=FONT)
    style = {"frameon": False, "fontsize": FONT - 0.5, "ncols": min(4, len(handles))}
    figure.legend(handles=handles, loc="outside lower center", handlelength=2.6, **style)
    return figure


def _shared(
    above: Axes,
    below: Axes,
    losses: np.ndarray,
    baselines: Sequence[Line],
    ends: tuple[float, float],
) -> list[Line2D]:
    """What both panels show: quantiles and baselines; return the legend's entries."""
    marks = {"color": BLUE, "linestyle": ""}
    handles = [
        Line2D([], [], **marks, marker="o", markersize=4, label="a search seed"),
        Line2D([], [], **marks, marker="|", markersize=9, label="mean of the seeds"),
    ]
    looks = [LOOKS[i % len(LOOKS)] for i in range(len(baselines))]
    for line, (color, dashes) in zip(baselines, looks, strict=True):
        style = {"color": color, "linestyle": dashes, "linewidth": 1.3}
        label = f"{line.name.replace('_', ' ')}: {line.loss:.3f}"
        handles.append(Line2D([], [], **style, label=label))
        if ends[0] < line.loss < ends[1]:
            for axes in (above, below):
                axes.axvline(line.loss, **style, zorder=1)
    for axes in (above, below):
        for percentiles, opacity in SHADES.items():
            edges = np.percentile(losses, percentiles)
            axes.axvspan(*edges, color=GREY, alpha=opacity, linewidth=0, zorder=0)
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(labelsize=FONT - 0.5)
    return handles


def _distribution(axes: Axes, losses: np.ndarray) -> None:
    """The share of random genotypes with a higher loss than each."""
    ranked = np.sort(losses)
    better = 100 * (1 - (np.arange(len(ranked)) + 0.5) / len(ranked))
    axes.plot(ranked, better, "o", color=INK, markersize=2.5, zorder=3)
    axes.set_ylim(0, 100)
    axes.set_yticks((0, 50, 100))
    axes.set_ylabel("percentile", fontsize=FONT)
    title = f"{len(losses)} random genotypes; shaded: the middle 50 % and 90 %"
    axes.set_title(title, fontsize=FONT, color=INK, loc="left")


def _strategy(axes: Axes, y: int, line: Line, ends: tuple[float, float]) -> None:
    """A row: the seeds and their mean; arrows with numbers for what lies beyond the ends."""
    low, high = ends
    axes.axhline(y, color=GREY, alpha=0.25, linewidth=0.5, zorder=0)
    inside = [loss for loss in line.seeds if low < loss < high]
    axes.plot(inside, [y] * len(inside), "o", color=BLUE, alpha=0.8, markersize=4, zorder=3)
    if low < line.loss < high:
        axes.plot(line.loss, y, "|", color=BLUE, markersize=9, markeredgewidth=1.5, zorder=4)
    for edge, marker, side, beyond in (
        (low, "<", "left", [loss for loss in line.seeds if loss <= low]),
        (high, ">", "right", [loss for loss in line.seeds if loss >= high]),
    ):
        if beyond:
            axes.plot(edge, y, marker, color=BLUE, markersize=5, clip_on=False, zorder=4)
            text = ", ".join(f"{loss:.3f}" for loss in beyond)
            offset = {"xytext": (8 if side == "left" else -8, 0), "textcoords": "offset points"}
            note = {"ha": side, "va": "center", "fontsize": FONT - 2, "color": BLUE}
            axes.annotate(text, (edge, y), **offset, **note)
