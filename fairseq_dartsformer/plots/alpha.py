"""Alpha over time: the mixing weights of every search node."""

from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from ..search_space.alpha_history import AlphaHistory
from .style import FONT, GREY, LOOKS, check_size, in_words, legend, plain


def alpha_figure(history: AlphaHistory) -> Figure:
    """Draw a panel for each node with a line for each operation; raise an :class:`InputError` if
    there are too many nodes.

    Each layer has a row of panels, the decoder's below the encoder's. The line of the last choice
    is thick; a vertical line marks the checkpoint at which it was new.
    """
    nodes = history.nodes
    check_size(len(nodes))
    rows = list(dict.fromkeys((node.stack, node.layer) for node in nodes))
    last_layers = dict(rows)
    columns = 1 + max(node.place for node in nodes)
    figure = Figure(
        figsize=(max(2.4 * columns, 5) + 0.6, 1.5 * len(rows) + 1.1), layout="constrained"
    )
    grid = figure.subplots(len(rows), columns, squeeze=False, sharex=True, sharey=True)
    unused = set(grid.flat)
    every = max(1, len(history.updates) // 6)
    for node in nodes:
        axes = grid[rows.index((node.stack, node.layer)), node.place]
        unused.remove(axes)
        for name, weights in node.weights.items():
            style, last = LOOKS[name].line, name == node.chosen[-1]
            width, zorder = (2, 3) if last else (0.9, 2)
            style |= {"linewidth": width, "zorder": zorder, "markersize": 3.5, "markevery": every}
            axes.plot(history.updates, weights, **style)
        axes.axhline(1 / len(node.weights), color=GREY, linewidth=0.6, zorder=1)
        if node.last_change is not None:
            axes.axvline(history.updates[node.last_change], color=GREY, linestyle=":", linewidth=1)
        plain(axes)
        if node.layer == last_layers[node.stack]:
            axes.set_xlabel("updates", fontsize=FONT)
            axes.tick_params(labelbottom=True)
        axes.set_title(history.name(node), fontsize=FONT, loc="left")
        axes.annotate(
            in_words(node.chosen[-1]),
            (0.03, 0.97),
            xycoords="axes fraction",
            va="top",
            fontsize=FONT,
            fontweight="bold",
            bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 1},
            zorder=5,
        )
    for axes in unused:
        axes.remove()
    figure.supylabel("mixing weight", fontsize=FONT)
    candidates = {name for node in nodes for name in node.weights}
    handles = {in_words(n): Line2D([], [], **LOOKS[n].line) for n in LOOKS if n in candidates}
    handles["equal weights"] = Line2D([], [], color=GREY, linewidth=0.6)
    handles["last change"] = Line2D([], [], color=GREY, linestyle=":", linewidth=1)
    legend(figure, handles)
    return figure
