"""Loss or BLEU against latency, with the Pareto front."""

from collections.abc import Sequence

from matplotlib.figure import Figure

from .style import FONT, GREY, legend

FRONT = "#d55e00"
LABELS = {"loss": "loss (bits)", "bleu": "BLEU"}


def pareto_front(latencies: Sequence[float], losses: Sequence[float]) -> list[int]:
    """Return the indices of the points than which no other is better in one coordinate and at least
    as good in the other, by increasing latency; of equal points, the first."""
    order = sorted(range(len(latencies)), key=lambda i: (latencies[i], losses[i], i))
    front: list[int] = []
    for i in order:
        if not front or losses[i] < losses[front[-1]]:
            front.append(i)
    return front


def latency_figure(latencies: Sequence[float], scores: Sequence[float], score: str) -> Figure:
    """Draw a point for each genotype, and a staircase through the Pareto front.

    Args:
        latencies: in milliseconds.
        scores: of the same genotypes; infinite ones are left out.
        score: ``"loss"`` in bits, of which less is better, or ``"bleu"``.
    """
    points = [(x, y) for x, y in zip(latencies, scores, strict=True) if abs(y) < float("inf")]
    sign = -1 if score == "bleu" else 1
    xs, ys = ([point[i] for point in points] for i in (0, 1))
    front = pareto_front(xs, [sign * y for y in ys])
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    marks = {"linestyle": "", "marker": "o", "color": GREY, "markersize": 3}
    (all_points,) = axes.plot(xs, ys, **marks)
    line = {"color": FRONT, "marker": "o", "markersize": 5, "drawstyle": "steps-post"}
    (best,) = axes.plot([xs[i] for i in front], [ys[i] for i in front], **line)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=FONT - 1)
    axes.set_xlabel("predicted latency (ms)", fontsize=FONT)
    axes.set_ylabel(LABELS.get(score, score), fontsize=FONT)
    legend(figure, {"genotype": all_points, "Pareto front": best})
    return figure
