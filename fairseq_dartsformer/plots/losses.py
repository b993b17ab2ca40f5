"""The loss of both levels of a search, and of validation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure

from .style import FONT, legend, plain

LINES = {  # colour, dashes, marker
    "weights": ("#0072b2", "-", None),
    "alpha": ("#d55e00", "--", None),
    "validation": ("#1a1a1a", ":", "o"),
}


def losses_figure(losses: Mapping[str, Sequence[tuple[int, float]]]) -> Figure:
    """Losses against updates.

    Args:
        losses: pairs of updates and loss in bits, of `weights`, `alpha` and `validation` as far as
            they are known.
    """
    figure = Figure(figsize=(7, 3.2), layout="constrained")
    axes = figure.subplots()
    handles = {}
    for name, (color, dashes, marker) in LINES.items():
        if losses.get(name):
            updates, values = zip(*losses[name], strict=True)
            marker = "." if len(updates) < 3 else marker  # a single point has no line
            style = {"color": color, "linestyle": dashes, "linewidth": 1.3, "markersize": 4}
            (handles[name],) = axes.plot(updates, values, marker=marker, **style)
    plain(axes)
    axes.set_xlabel("updates", fontsize=FONT)
    axes.set_ylabel("loss (bits)", fontsize=FONT)
    legend(figure, handles)
    return figure
