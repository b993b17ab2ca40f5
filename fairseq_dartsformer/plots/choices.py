"""What would have been derived along a search."""

from __future__ import annotations

from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from ..search_space.alpha_history import AlphaHistory
from .style import FONT, GREY, INK, LOOKS, check_size, in_words, legend, text_color


def choices_figure(history: AlphaHistory) -> Figure:
    """What would have been derived, a row a node and a bar from one change of mind to the next; the
    number beside it is the update at which the last choice was first seen."""
    nodes, updates = history.nodes, history.updates
    check_size(len(nodes))
    figure = Figure(figsize=(7, 0.8 + 0.27 * len(nodes) + 0.5), layout="constrained")
    axes = figure.subplots()
    # A choice counts from its checkpoint to the next; the last one as long as the one before.
    width = updates[-1] - updates[-2] if len(updates) > 1 else 1
    edges = [*updates, updates[-1] + width]
    for row, node in enumerate(nodes):
        starts = [i for i, name in enumerate(node.chosen) if i == 0 or name != node.chosen[i - 1]]
        for start, end in zip(starts, [*starts[1:], len(updates)], strict=True):
            name = node.chosen[start]
            left, length = edges[start], edges[end] - edges[start]
            axes.barh(
                row,
                length,
                left=left,
                height=0.72,
                color=LOOKS[name].color,
                edgecolor=INK,
                linewidth=0.5,
            )
            words = in_words(name)
            # Half a digit's width a character: what does not fit stands in the legend alone.
            if len(words) * 0.085 < 4.2 * length / (edges[-1] - edges[0]):
                axes.text(
                    left + length / 2,
                    row,
                    words,
                    ha="center",
                    va="center",
                    fontsize=FONT - 1,
                    color=text_color(LOOKS[name].color),
                )
        since = "always" if node.last_change is None else f"{updates[node.last_change]:,}"
        axes.annotate(
            since, (1.01, row), xycoords=("axes fraction", "data"), va="center", fontsize=FONT - 1
        )
    axes.annotate(
        "unchanged\nsince",
        (1.01, -0.8),
        xycoords=("axes fraction", "data"),
        va="bottom",
        fontsize=FONT - 1,
        color=GREY,
    )
    axes.set_yticks(range(len(nodes)), map(history.name, nodes), fontsize=FONT)
    axes.set_ylim(len(nodes) - 0.5, -0.5)
    axes.set_xlim(edges[0], edges[-1])
    axes.tick_params(axis="x", labelsize=FONT - 1)
    axes.tick_params(axis="y", length=0)
    # Only updates that there were: the last bar runs on beyond them.
    ticks = MaxNLocator(8, integer=True).tick_values(updates[0], updates[-1])
    ticks = [tick for tick in ticks if updates[0] <= tick <= updates[-1]] or updates
    axes.set_xticks(ticks, [f"{tick:,.0f}" for tick in ticks])
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.set_xlabel("updates", fontsize=FONT)
    seen = {name for node in nodes for name in node.chosen}
    legend(
        figure,
        {
            in_words(name): Patch(facecolor=look.color, edgecolor=INK, linewidth=0.5)
            for name, look in LOOKS.items()
            if name in seen
        },
    )
    return figure
