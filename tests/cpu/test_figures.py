"""In figures nothing is missing, cut off or covered; equal figures are equal files."""

import io
import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
from helpers.models import every_operation_once
from helpers.snapshots import RECORDED, results, search_state
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.text import Text
from matplotlib.transforms import Bbox

from fairseq_dartsformer import plots
from fairseq_dartsformer.operations import DECODER_OPERATIONS
from fairseq_dartsformer.plots.style import LOOKS, in_words, text_color
from fairseq_dartsformer.search.history import history_of
from fairseq_dartsformer.search.snapshot import derive, snapshot_of
from fairseq_dartsformer.search_space.alpha_history import AlphaHistory
from fairseq_dartsformer.search_space.families import FAMILIES
from fairseq_dartsformer.search_space.genotype import BUILTIN, Genotype

FIGURES = [plots.alpha_figure, plots.choices_figure]


def texts(figure) -> list[tuple[str, Bbox]]:
    """The texts that are drawn, each with its box in pixels."""
    drawn: list[Text] = []
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Text, "draw", lambda text, renderer: drawn.append(text))
        figure.draw(FigureCanvasAgg(figure).get_renderer())
    shown = [text for text in drawn if text.get_visible() and text.get_text().strip()]
    return [(text.get_text(), text.get_window_extent()) for text in shown]


def check_layout(figure) -> None:
    """All text is within the figure, and no text covers another."""
    width, height = figure.get_size_inches() * figure.dpi
    found = texts(figure)
    for text, box in found:
        assert box.x0 > -1 and box.y0 > -1 and box.x1 < width + 1 and box.y1 < height + 1, text
    for (one, a), (other, b) in itertools.combinations(found, 2):
        across = min(a.x1, b.x1) - max(a.x0, b.x0)
        along = min(a.y1, b.y1) - max(a.y0, b.y0)
        assert across < 1 or along < 1, (one, other)


def random_genotype(layers: int, splits: int) -> Genotype:
    state = search_state(layers, layers, splits, pooling="avg")
    return derive(snapshot_of(state, "c.pt"))


GENOTYPES = {
    **BUILTIN,
    **{f"every of {n} splits": every_operation_once(n, "max") for n in (2, 3, 4)},
    "every of a Transformer": every_operation_once(2, None),
    **{f"every of {n} splits, text": every_operation_once(n, "max", True) for n in (2, 3)},
    "every of a Transformer, text": every_operation_once(2, None, True),
    **{f"{s} layers of {n}": random_genotype(s, n) for s, n in ((1, 4), (2, 3), (4, 2), (4, 4))},
}


@pytest.mark.parametrize("name", GENOTYPES)
def test_genotype(name):
    """Operations, splits, pooling and layers appear as often as in the genotype."""
    genotype = GENOTYPES[name]
    figure = plots.genotype_figure(genotype)
    check_layout(figure)
    shown = [" ".join(text.split()) for text, _ in texts(figure)]
    stacks = genotype.blocks.values()
    blocks = [layer for block in stacks for layer in block]
    for operation in LOOKS:
        assert shown.count(in_words(operation)) == sum(b.count(operation) for b in blocks)
    for i in range(max(map(len, stacks))):
        assert shown.count(f"layer {i + 1}") == sum(len(block) > i for block in stacks)
    family = FAMILIES[genotype.family]
    sizes = [len(block[0]) for block in stacks]
    for k in range(max(sizes)):
        for letter in "XY":
            count = sum(size > k for size in sizes) if family.pooled else 0
            assert shown.count(f"${letter}_{{{k + 1}}}$") == count
    pooled = sum(len(layer) for layer in blocks if len(layer) > 2) if family.pooled else 0
    assert shown.count(f"{genotype.pooling} pool") == pooled


def luminance(color: str) -> float:
    """Relative luminance as the WCAG defines it."""
    rgb = np.array(to_rgb(color))
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


def test_operations_are_told_apart_without_colors_and_words_on_them_can_be_read():
    assert set(LOOKS) == set(DECODER_OPERATIONS)
    assert len({(look.marker, str(look.dashes)) for look in LOOKS.values()}) == len(LOOKS)
    for look in LOOKS.values():
        low, high = sorted(map(luminance, (look.color, text_color(look.color))))
        assert (high + 0.05) / (low + 0.05) > 3.5  # the contrast


@pytest.mark.parametrize("figure", FIGURES, ids=lambda f: f.__name__)
@pytest.mark.parametrize(
    "space",
    [
        {"layers": 1, "splits": 2},
        {"layers": 2, "splits": 2, "encoder_operations": "ffn,zero", "decoder_operations": "glu"},
        {"layers": 2, "splits": 3, "decoder_splits": 3},
        {"layers": 4, "splits": 4},
    ],
    ids=lambda space: f"s={space['layers']} n={space['splits']}",
)
def test_history(figure, space):
    for count in (1, 2) if space["layers"] == 1 else ():
        check_layout(figure(history_of(results(count, **space))))
    history = history_of(results(**space))
    drawn = figure(history)
    check_layout(drawn)
    shown = [text for text, _ in texts(drawn)]
    assert all(map(shown.count, map(history.name, history.nodes)))
    if figure is plots.alpha_figure:
        candidates = {name for node in history.nodes for name in node.weights}
        assert all(in_words(name) in shown for name in candidates)


@pytest.mark.parametrize(
    "updates", [[300], [317], [300, 301], [7, 1000, 1999], [*range(0, 301, 20)]]
)
def test_choices_axis_has_updates_of_the_search_alone(updates):
    (result,) = results(1)
    history = history_of(replace(result, updates=update) for update in updates)
    figure = plots.choices_figure(history)
    check_layout(figure)
    ticks = [text.get_text() for text in figure.axes[0].get_xticklabels()]
    numbers = [int(tick.replace(",", "")) for tick in ticks]
    assert numbers == list(figure.axes[0].get_xticks()) == sorted(set(numbers))
    assert len(numbers) >= min(2, len(updates))
    assert updates[0] <= numbers[0] and numbers[-1] <= updates[-1]


@pytest.mark.parametrize("figure", FIGURES, ids=lambda f: f.__name__)
def test_recorded_history(figure):
    check_layout(figure(AlphaHistory.load(str(RECORDED))))


@pytest.mark.filterwarnings("error")
def test_losses():
    curve = [(1000 * i, 9 - math.log(i)) for i in range(1, 9)]
    for losses in (
        {"weights": curve, "alpha": curve[2:], "validation": curve[-1:]},
        {"alpha": curve[:2], "validation": curve},
        {"alpha": curve},
    ):
        drawn = plots.losses_figure(losses)
        check_layout(drawn)
        assert {name for name, _ in texts(drawn)} >= losses.keys()


@pytest.mark.parametrize("count", [1, 2, 40])
@pytest.mark.parametrize("score", ["loss", "bleu"])
def test_front_is_what_no_other_point_is_better_than(score, count):
    """Against the definition; equal points, equal coordinates and infinite losses included."""
    draw = np.random.default_rng(count)
    latencies, scores = draw.integers(1, 12, count) / 4.0, draw.integers(1, 12, count) / 2.0
    losses = -scores if score == "bleu" else scores
    front = plots.pareto_front(latencies, losses)
    points = set(zip(latencies, losses, strict=True))

    def beaten(x: float, y: float) -> bool:
        return any(a <= x and b <= y for a, b in points - {(x, y)})

    assert [(latencies[i], losses[i]) for i in front] == sorted(
        point for point in points if not beaten(*point)
    )
    figure = plots.latency_figure([*latencies, 0.1], [*scores, math.inf], score)
    check_layout(figure)
    every, staircase = figure.axes[0].get_lines()
    assert len(every.get_xdata()) == count
    assert list(staircase.get_xdata()) == [latencies[i] for i in front]


@pytest.mark.parametrize("kind", ["svg", "pdf", "png"])
def test_the_same_figure_is_the_same_file(kind):
    files = []
    for _ in range(2):
        buffer = io.BytesIO()
        plots.save(plots.genotype_figure(BUILTIN["paper_fig4_approx"]), buffer, kind)
        files.append(buffer.getvalue())
    assert files[0] == files[1]
    assert files[0].startswith({"svg": b"<?xml", "pdf": b"%PDF", "png": b"\x89PNG"}[kind])
