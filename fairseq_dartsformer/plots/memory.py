"""Peak memory against hidden size (the paper's Figure 1)."""

from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure


def memory_figure(
    hidden_dims: Sequence[int], curves: Mapping[str, Sequence[int]], limits: Mapping[str, int]
) -> Figure:
    """Draw the paper's Figure 1.

    Args:
        hidden_dims: d of each point.
        curves: for each name, bytes at each point.
        limits: for each GPU, the bytes that tensors may take; drawn as dashed lines up to the
            highest point.
    """
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    for (name, sizes), marker in zip(curves.items(), "osD^", strict=False):
        gigabytes = [size / 1e9 for size in sizes]
        (line,) = axes.plot(hidden_dims, gigabytes, marker=marker, label=name)
        note = {"textcoords": "offset points", "ha": "right", "color": line.get_color()}
        end = (hidden_dims[-1], gigabytes[-1])
        axes.annotate(f"{gigabytes[-1]:.1f} GB", end, (-8, 4), **note)
    for name, limit in limits.items():
        if limit < max(max(sizes) for sizes in curves.values()):
            axes.axhline(limit / 1e9, color="grey", linestyle="--", linewidth=0.8, zorder=0)
            place = {"xycoords": ("axes fraction", "data"), "textcoords": "offset points"}
            axes.annotate(name, (0, limit / 1e9), (4, 2), **place, color="grey", fontsize="small")
    axes.set_xticks(hidden_dims)
    axes.set_ylim(bottom=0)
    axes.set_xlabel("hidden size d")
    axes.set_ylabel("peak memory of a search update (GB)")
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    return figure
