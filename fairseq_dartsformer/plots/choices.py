"""The operations that would be derived in the course of a search."""

from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from ..search_space.alpha_history import AlphaHistory
from .style import FONT, GREY, INK, LOOKS, check_size, in_words, legend, text_color


def choices_figure(history: AlphaHistory) -> Figure:
    """Draw a row for each node, with a bar for as long as its choice stays the same; raise an
    :class:`InputError` if there are too many nodes.

    The number beside a row is the number of updates at which its last choice was new.
    """
    nodes, updates = history.nodes, history.updates
    check_size(len(nodes))
    figure = Figure(figsize=(7, 1.3 + 0.27 * len(nodes)), layout="constrained")
    axes = figure.subplots()
    # A choice counts until the next checkpoint; the last one counts as long as the one before.
    edges = [*updates, 2 * updates[-1] - updates[-2] if len(updates) > 1 else updates[-1] + 1]
    frame = {"edgecolor": INK, "linewidth": 0.5}
    beside = {"xycoords": ("axes fraction", "data"), "va": "center", "fontsize": FONT - 1}
    for row, node in enumerate(nodes):
        starts = [i for i, name in enumerate(node.chosen) if i == 0 or name != node.chosen[i - 1]]
        for start, end in zip(starts, [*starts[1:], len(updates)], strict=True):
            name, left, length = node.chosen[start], edges[start], edges[end] - edges[start]
            color, words = LOOKS[name].color, in_words(name)
            axes.barh(row, length, left=left, height=0.72, color=color, **frame)
            # A bar that is too short for its name (about 0.085 inches a letter) has none.
            if len(words) * 0.085 < 4.2 * length / (edges[-1] - edges[0]):
                place = {"ha": "center", "va": "center", "fontsize": FONT - 1}
                axes.text(left + length / 2, row, words, color=text_color(color), **place)
        since = "always" if node.last_change is None else f"{updates[node.last_change]:,}"
        axes.annotate(since, (1.01, row), **beside)
    axes.annotate("unchanged\nsince", (1.01, -0.8), **beside | {"va": "bottom"}, color=GREY)
    axes.set_yticks(range(len(nodes)), map(history.name, nodes), fontsize=FONT)
    axes.set_ylim(len(nodes) - 0.5, -0.5)
    axes.set_xlim(edges[0], edges[-1])
    axes.tick_params(axis="x", labelsize=FONT - 1)
    axes.tick_params(axis="y", length=0)
    # The last bar extends beyond the last checkpoint; ticks do not.
    ticks = MaxNLocator(8, integer=True).tick_values(updates[0], updates[-1])
    ticks = [tick for tick in ticks if updates[0] <= tick <= updates[-1]] or updates
    axes.set_xticks(ticks, [f"{tick:,.0f}" for tick in ticks])
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.set_xlabel("updates", fontsize=FONT)
    seen = {name for node in nodes for name in node.chosen}
    looks = {in_words(name): look for name, look in LOOKS.items() if name in seen}
    legend(figure, {name: Patch(facecolor=look.color, **frame) for name, look in looks.items()})
    return figure
