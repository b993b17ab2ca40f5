"""The losses of a search over time."""

from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure

from .style import FONT, legend, plain

LINES = {  # colour, dashes, marker
    "weights": ("#0072b2", "-", None),
    "alpha": ("#d55e00", "--", None),
    "validation": ("#1a1a1a", ":", "o"),
}


def losses_figure(losses: Mapping[str, Sequence[tuple[int, float]]]) -> Figure:
    """Draw losses against updates.

    Args:
        losses: pairs of updates and loss in bits, under the names `weights`, `alpha` and
            `validation`; any of them may be missing.
    """
    figure = Figure(figsize=(7, 3.2), layout="constrained")
    axes = figure.subplots()
    handles = {}
    for name, (color, dashes, marker) in LINES.items():
        if losses.get(name):
            marker = "." if len(losses[name]) < 3 else marker  # a single point has no line
            style = {"color": color, "linestyle": dashes, "marker": marker, "markersize": 4}
            (handles[name],) = axes.plot(*zip(*losses[name], strict=True), **style)
    plain(axes)
    axes.set_xlabel("updates", fontsize=FONT)
    axes.set_ylabel("loss (bits)", fontsize=FONT)
    legend(figure, handles)
    return figure
