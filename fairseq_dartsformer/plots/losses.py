"""The loss of both levels of a search, and of validation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure

from .style import FONT, legend, plain

LINES = {"weights": ("#0072b2", "-"), "alpha": ("#d55e00", "--"), "validation": ("#1a1a1a", "o:")}


def losses_figure(losses: Mapping[str, Sequence[tuple[int, float]]]) -> Figure:
    """Losses against updates.

    Args:
        losses: pairs of updates and loss in bits, of `weights`, `alpha` and `validation` as far as
            they are known.
    """
    figure = Figure(figsize=(7, 3.2), layout="constrained")
    axes = figure.subplots()
    handles = {}
    for name, (color, form) in LINES.items():
        if losses.get(name):
            updates, values = zip(*losses[name], strict=True)
            marker = "." if len(updates) < 3 else None  # a single point has no line
            style = {"color": color, "linewidth": 1.3, "markersize": 4, "marker": marker}
            if marker is None and "o" in form:
                del style["marker"]
            (handles[name],) = axes.plot(updates, values, form, **style)
    plain(axes)
    axes.set_xlabel("updates", fontsize=FONT)
    axes.set_ylabel("loss (bits)", fontsize=FONT)
    legend(figure, handles)
    return figure
