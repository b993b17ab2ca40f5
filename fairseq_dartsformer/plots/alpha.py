"""Alpha over time: mixing weights, entropies and margins of every search node."""

from __future__ import annotations

import math

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from ..search_space.alpha_history import AlphaHistory, NodeHistory
from .style import FONT, GREY, INK, LOOKS, check_size, in_words, legend, plain

LAYER_COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#5c5c5c", "#e69f00")
SPLIT_STYLES = ("o-", "s--", "^:", "D-.", "v-", "X--")


def alpha_figure(history: AlphaHistory) -> Figure:
    """A panel a node, a line an operation; the last choice is thick, and a vertical line marks the
    checkpoint at which it was new."""
    figure, panels = _panels(history, width=1.9, height=1.5, shared=True)
    every = max(1, len(history.updates) // 6)
    for node, axes in panels:
        for name, weights in node.weights.items():
            color, marker, dashes = LOOKS[name]
            last = name == node.chosen[-1]
            axes.plot(
                history.updates,
                weights,
                color=color,
                linestyle=dashes,
                linewidth=2 if last else 0.9,
                marker=marker,
                markersize=3.5,
                markevery=every,
                zorder=3 if last else 2,
            )
        axes.axhline(1 / len(node.weights), color=GREY, linewidth=0.6, zorder=1)
        if node.last_change is not None:
            axes.axvline(history.updates[node.last_change], color=GREY, linestyle=":", linewidth=1)
        _note(axes, in_words(node.chosen[-1]))
    figure.supylabel("mixing weight", fontsize=FONT)
    handles = {name: _line(name) for name in LOOKS if any(name in n.weights for n, _ in panels)}
    marks = {
        "balance": Line2D([], [], color=GREY, linewidth=0.6),
        "last change": Line2D([], [], color=GREY, linestyle=":", linewidth=1),
    }
    named = {in_words(name): line for name, line in handles.items()} | marks
    legend(figure, named)
    return figure


def heat_figure(history: AlphaHistory) -> Figure:
    """A panel a node: operations by checkpoints, the mixing weight by colour; a dot marks the
    choice."""
    figure, panels = _panels(history, width=2, height=2.1, shared=False)
    everything = [w for node in history.nodes for times in node.weights.values() for w in times]
    norm = Normalize(min(everything), max(everything))
    count = len(history.updates)
    for node, axes in panels:
        names = list(node.weights)
        image = axes.imshow(
            np.array(list(node.weights.values())),
            cmap="cividis",
            norm=norm,
            aspect="auto",
            interpolation="nearest",
        )
        axes.plot(
            range(count),
            [names.index(name) for name in node.chosen],
            "o",
            color="white",
            markeredgecolor=INK,
            markeredgewidth=0.6,
            markersize=3.5,
        )
        axes.set_yticks(range(len(names)), [])
        if axes.get_subplotspec().is_first_col() or node.place == 0:
            axes.set_yticklabels(map(in_words, names), fontsize=FONT - 1.5)
        ticks = np.unique(np.linspace(0, count - 1, min(3, count)).round().astype(int))
        axes.set_xticks(ticks, [f"{history.updates[i]:,}" for i in ticks])
    bar = figure.colorbar(image, ax=[axes for _, axes in panels], pad=0.02, aspect=35)
    bar.set_label("mixing weight", fontsize=FONT)
    bar.ax.tick_params(labelsize=FONT - 1)
    return figure


def certainty_figure(history: AlphaHistory) -> Figure:
    """Entropy of the mixing weights and margin of the first over the second, a line a node."""
    check_size(len(history.nodes))
    stacks = list(dict.fromkeys(node.stack for node in history.nodes))
    figure = Figure(figsize=(3.6 * len(stacks) + 0.4, 4.6), layout="constrained")
    rows = figure.subplots(2, len(stacks), squeeze=False, sharex=True, sharey="row").T
    lines = {}
    for stack, (top, bottom) in zip(stacks, rows, strict=True):
        top.set_title(stack, fontsize=10, fontweight="bold")
        nodes = [node for node in history.nodes if node.stack == stack]
        for node in nodes:
            style = {
                "color": LAYER_COLORS[node.layer % len(LAYER_COLORS)],
                "linewidth": 1.2,
                "markersize": 4,
                "markevery": max(1, len(history.updates) // 6),
            }
            form = SPLIT_STYLES[node.place % len(SPLIT_STYLES)]
            (line,) = top.plot(history.updates, node.entropies, form, **style)
            bottom.plot(history.updates, node.margins, form, **style)
            name = f"layer {node.layer + 1} {history.family.node} {node.place + 1}"
            lines[name] = line
        most = max(math.log(len(node.weights)) for node in nodes)
        top.axhline(most, color=GREY, linewidth=0.6)
        plain(top, bottom)
        bottom.set_xlabel("updates", fontsize=FONT)
    lines = dict(sorted(lines.items()))
    lines["all in balance"] = Line2D([], [], color=GREY, linewidth=0.6)
    rows[0][0].set_ylabel("entropy (nats)", fontsize=FONT)
    rows[0][1].set_ylabel("margin", fontsize=FONT)
    rows[0][1].set_ylim(bottom=0)
    legend(figure, lines)
    return figure


def _panels(
    history: AlphaHistory, width: float, height: float, shared: bool
) -> tuple[Figure, list[tuple[NodeHistory, Axes]]]:
    """A panel for every node: a row a layer, a column a place; the decoder's beside the encoder's
    where that is not wide, else below.

    Args:
        history: whose nodes.
        width, height: of a panel, in inches.
        shared: whether all have the same axis for values.
    """
    places: dict[str, list[int]] = {}
    layers: dict[str, int] = {}
    for node in history.nodes:
        of_stack = places.setdefault(node.stack, [])
        if node.place not in of_stack:
            of_stack.append(node.place)
        layers[node.stack] = max(node.layer + 1, layers.get(node.stack, 0))
    check_size(sum(layers[stack] * len(places[stack]) for stack in places))
    beside = sum(map(len, places.values())) <= 4
    corners, row, column = {}, 0, 0
    for stack in places:
        corners[stack] = row, column
        row, column = (row, column + len(places[stack])) if beside else (row + layers[stack], 0)
    rows = max(layers.values()) if beside else row
    columns = column if beside else max(map(len, places.values()))
    figure = Figure(
        figsize=(max(width * columns, 5) + 0.6, height * rows + 1.1), layout="constrained"
    )
    grid = figure.subplots(rows, columns, squeeze=False, sharex=shared, sharey=shared)
    panels = []
    for node in history.nodes:
        row, column = corners[node.stack]
        axes = grid[row + node.layer, column + places[node.stack].index(node.place)]
        axes.set_title(history.name(node), fontsize=FONT, loc="left")
        axes.tick_params(labelsize=FONT - 1)
        if shared:
            plain(axes)
        if node.layer + 1 == layers[node.stack]:
            axes.set_xlabel("updates", fontsize=FONT)
            axes.tick_params(labelbottom=True)
        panels.append((node, axes))
    used = {id(axes) for _, axes in panels}
    for axes in grid.flat:
        if id(axes) not in used:
            axes.remove()
    return figure, panels


def _note(axes: Axes, text: str) -> None:
    """The choice, in the panel's corner."""
    axes.annotate(
        text,
        (0.03, 0.97),
        xycoords="axes fraction",
        ha="left",
        va="top",
        fontsize=FONT,
        fontweight="bold",
        bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 1},
        zorder=5,
    )


def _line(name: str) -> Line2D:
    color, marker, dashes = LOOKS[name]
    return Line2D([], [], color=color, marker=marker, linestyle=dashes, markersize=4)
