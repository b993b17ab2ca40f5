"""The paper's Figure 1."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure


def memory_figure(
    hidden_dims: Sequence[int], curves: Mapping[str, Sequence[int]], limits: Mapping[str, int]
) -> Figure:
    """Peak memory against hidden size (Figure 1).

    Args:
        hidden_dims: d of each point.
        curves: bytes at each point, by name.
        limits: bytes that GPUs have for tensors, by name: dashed lines, where they are in sight.
    """
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    highest = max(max(sizes) for sizes in curves.values()) / 1e9
    for (name, sizes), marker in zip(curves.items(), "osD^", strict=False):
        axes.plot(hidden_dims, [size / 1e9 for size in sizes], marker=marker, label=name)
    for name, limit in limits.items():
        if limit / 1e9 < highest:
            axes.axhline(limit / 1e9, color="grey", linestyle="--", linewidth=0.8)
            axes.annotate(
                name,
                (1, limit / 1e9),
                xycoords=("axes fraction", "data"),
                xytext=(-4, 2),
                textcoords="offset points",
                horizontalalignment="right",
                color="grey",
                fontsize="small",
            )
    axes.set_xticks(list(hidden_dims))
    axes.set_ylim(bottom=0)
    axes.set_xlabel("hidden size d")
    axes.set_ylabel("peak memory of a search update (GB)")
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    return figure
