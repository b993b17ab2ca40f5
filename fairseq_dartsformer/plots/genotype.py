"""A genotype as a picture: the searched blocks of both stacks (the paper's Figures 2 and 4)."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib import patheffects
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle, FancyBboxPatch

from ..search_space.families import FAMILIES, Family
from ..search_space.genotype import Block, Genotype
from .style import GREY, INK, LOOKS, check_size, in_words, text_color

# All lengths are in units of the drawing; all fonts in points.
UNIT = 0.45  # inches
BOX = (1.5, 0.68)  # of an operation: width, height
FRAME = 0.08  # from an operation's frame to a second one
PITCH = 2.25  # from one split's stream to the next
LINE = 1.1  # width of a line in points
LAYER = "#f2f2f2"
NAMES = {"encoder": "source", "decoder": "target"}


class _Canvas:
    """Lines, boxes and arrows in the drawing's units."""

    def __init__(self, axes: Axes):
        self.axes = axes

    def text(self, x: float, y: float, text: str, size: float = 8, **options) -> None:
        options = {"ha": "center", "va": "center", "color": INK} | options
        self.axes.text(x, y, text, fontsize=size, linespacing=1, **options)

    def line(self, points: Sequence[tuple[float, float]], over: str | None = None, **options):
        """A polyline; ``over`` is the ground's colour where it jumps over the lines it crosses."""
        options = {"color": INK, "linewidth": LINE, "zorder": 3, "solid_capstyle": "butt"} | options
        (line,) = self.axes.plot(*zip(*points, strict=True), **options)
        if over:
            gap = patheffects.Stroke(linewidth=options["linewidth"] + 4, foreground=over)
            line.set_path_effects([gap, patheffects.Normal()])

    def arrow(self, points: Sequence[tuple[float, float]], over: str | None = None, **options):
        """A polyline with a head at its end."""
        (x, y), (to_x, to_y) = points[-2:]
        short = 0.12  # the head covers the rest
        length = abs(to_x - x) + abs(to_y - y)  # all lines run along one axis
        end = (to_x - short * (to_x - x) / length, to_y - short * (to_y - y) / length)
        self.line([*points[:-1], end], over, **options)
        color, zorder = options.get("color", INK), options.get("zorder", 3)
        style = {"arrowstyle": "-|>,head_width=0.18,head_length=0.36", "color": color}
        style |= {"linewidth": 0, "shrinkA": 0, "shrinkB": 0, "mutation_scale": 12}
        self.axes.annotate("", points[-1], points[-2], arrowprops=style, zorder=zorder + 1)

    def box(self, x: float, y: float, size: tuple[float, float], text: str, color: str, **options):
        """A box around its centre."""
        width, height = size
        frame = {"edgecolor": INK, "linewidth": 0.8, "zorder": 6} | options
        corner = (x - width / 2, y - height / 2)
        style = "round,pad=0,rounding_size=0.1"
        self.axes.add_patch(FancyBboxPatch(corner, *size, style, facecolor=color, **frame))
        self.text(x, y, text, color=text_color(color), zorder=7)

    def operation(self, x: float, y: float, name: str, fixed: bool) -> None:
        """An operation's box; a double frame says that it was not searched."""
        words = in_words(name)
        if len(words) > 10:  # the widest that one line holds
            words = words.replace(" ", "\n", 1)
        self.box(x, y, BOX, words, LOOKS[name].color)
        if fixed:
            outer = (BOX[0] + 2 * FRAME, BOX[1] + 2 * FRAME)
            self.box(x, y, outer, "", "white", linewidth=0.8, zorder=5)

    def sum(self, x: float, y: float) -> None:
        """The addition of Eq. 3."""
        self.axes.add_patch(Circle((x, y), 0.15, facecolor="white", edgecolor=INK, zorder=6))
        for points in ([(x - 0.15, y), (x + 0.15, y)], [(x, y - 0.15), (x, y + 0.15)]):
            self.line(points, linewidth=0.8, zorder=7)

    def dot(self, x: float, y: float) -> None:
        self.axes.add_patch(Circle((x, y), 0.065, color=INK, zorder=5))


class _Stack:
    """One stack's block, from the bottom up.

    Attributes:
        width, top: how much room it takes.
        attended: heights at which cross attention reads the encoder's output.
    """

    margin = 0.55  # of a layer's ground beside its nodes
    gap = 0.35  # between layers
    head = 1.15  # below the block, and above it

    def __init__(self, name: str, block: Block, family: Family, pooling: str | None):
        self.name, self.block, self.family, self.pooling = name, block, family, pooling
        self.nodes = len(block[0])
        self.pools = family.pooled and self.nodes > 2
        if family.pooled:
            self.step = 2.0 if self.pools else 1.35
            self.width = self.nodes * PITCH + self.margin
        else:
            self.step = 1.25
            self.width = BOX[0] + 2 * 1.05  # beside the node, the layer's name
        self.layer_height = self.nodes * self.step + 0.2
        self.height = len(block) * (self.layer_height + self.gap) - self.gap
        self.top = self.height + 2 * self.head
        self.attended: list[float] = []

    def draw(self, canvas: _Canvas, left: float, memory: float | None) -> None:
        """Draw it with its left edge and its bottom at ``(left, 0)``.

        Args:
            canvas: where.
            left: its left edge.
            memory: where the encoder's output runs up; ``None`` for the encoder itself.
        """
        self.canvas, self.left, self.memory = canvas, left, memory
        if self.family.pooled:
            self.streams = [left + (k + 1) * PITCH - 0.1 for k in range(self.nodes)]
        else:
            self.streams = [left + self.width / 2]
        middle = left + self.width / 2
        bottom, top = self.head, self.head + self.height
        wide = (self.width, 0.5)
        canvas.box(middle, 0.3, wide, f"{NAMES[self.name]} embedding", "white")
        canvas.box(middle, self.top - 0.3, wide, "LayerNorm", "white")
        for k, x in enumerate(self.streams):
            canvas.arrow([(x, 0.55), (x, self.top - 0.55)], zorder=2)
            if self.family.pooled:
                for letter, y in (("X", bottom - 0.28), ("Y", top + 0.2)):
                    canvas.text(x + 0.12, y, f"${letter}_{{{k + 1}}}$", ha="left", size=9)
        for i, layer in enumerate(self.block):
            y = bottom + i * (self.layer_height + self.gap)
            self._layer(i, layer, y)
        repeat = left + self.width + 0.22
        canvas.line([(repeat - 0.1, bottom), (repeat, bottom), (repeat, top), (repeat - 0.1, top)])
        canvas.text(repeat + 0.12, (bottom + top) / 2, r"$\times N$", ha="left", size=10)
        canvas.text(middle, -0.35, self.name, size=10, fontweight="bold")

    def _layer(self, i: int, layer: Sequence[str], bottom: float) -> None:
        ground = (self.width, self.layer_height)
        middle = (self.left + self.width / 2, bottom + self.layer_height / 2)
        self.canvas.box(*middle, ground, "", LAYER, edgecolor="none", zorder=0)
        corner = (self.left + 0.12, bottom + self.layer_height - 0.14)
        self.canvas.text(*corner, f"layer {i + 1}", 7.5, ha="left", va="top", color=GREY)
        for k, name in enumerate(layer):
            fixed = self.family.is_fixed(self.name, k, self.nodes)
            draw = self._split if self.family.pooled else self._node
            draw(k, name, fixed, bottom + 0.1 + k * self.step)

    def _split(self, k: int, name: str, fixed: bool, bottom: float) -> None:
        """`Y_k = X_k + G_k(X_{i>k}, Y_{i<k})` (Eq. 3), its inputs pooled (Eq. 5)."""
        canvas, stream = self.canvas, self.streams[k]
        x, y = stream - BOX[0] / 2 - 0.44, bottom + self.step - 0.48
        bus, frame = bottom + 0.22, FRAME if fixed else 0
        below, right = y - BOX[1] / 2 - frame, x + BOX[0] / 2 + frame
        sources = [self.streams[i] for i in range(self.nodes) if i != k]
        for source in sources:
            canvas.dot(source, bus)
        canvas.line([(min(*sources, x), bus), (max(*sources, x), bus)], over=LAYER)
        for source in sources:  # a stream that is read is not jumped over
            canvas.line([(source, bus - 0.2), (source, bus + 0.2)])
        if self.pools:
            pool = bus + 0.48
            canvas.arrow([(x, bus), (x, pool - 0.17)])
            canvas.box(x, pool, (1.2, 0.34), f"{self.pooling} pool", "white", linewidth=0.6)
            canvas.arrow([(x, pool + 0.17), (x, below)])
        else:
            canvas.arrow([(x, bus), (x, below)])
        canvas.operation(x, y, name, fixed)
        canvas.arrow([(right, y), (stream - 0.14, y)])
        canvas.sum(stream, y)
        self._attend(name, x, y)

    def _node(self, k: int, name: str, fixed: bool, bottom: float) -> None:
        """One of the nodes that follow each other."""
        (x,) = self.streams
        y = bottom + self.step / 2 + 0.05
        self.canvas.operation(x, y, name, fixed)
        below = y - BOX[1] / 2 - (FRAME if fixed else 0)
        self.canvas.arrow([(x, below - 0.2), (x, below)])
        self._attend(name, x, y)

    def _attend(self, name: str, x: float, y: float) -> None:
        """The encoder's output, as cross attention's keys and values."""
        if name == "cross_attention" and self.memory is not None:
            color = LOOKS["self_attention"].color
            self.attended.append(y)
            self.canvas.line([(self.memory, y), (self.left, y)], color=color, zorder=4)
            end = (x - BOX[0] / 2, y)
            self.canvas.arrow([(self.left, y), end], over=LAYER, color=color, zorder=4)


def genotype_figure(genotype: Genotype) -> Figure:
    """The searched blocks of encoder and decoder, from their embeddings up.

    Each split's stream runs upwards. An operation stands left of the stream that it is added to,
    and a dot marks every stream that it reads.

    Args:
        genotype: what to draw, of either family.

    Raises:
        InputError: it is too large to be drawn.
    """
    sizes = [len(layer) for layer in genotype.encoder + genotype.decoder]
    check_size(sum(sizes), sum(size * size for size in sizes))
    family = FAMILIES[genotype.family]
    encoder, decoder = (
        _Stack(stack, getattr(genotype, stack), family, genotype.pooling)
        for stack in ("encoder", "decoder")
    )
    between = 2.0  # room for the encoder's repeat mark and its output's way
    width = encoder.width + between + decoder.width + 0.9
    side, low, high = 0.15, -1.4, max(encoder.top, decoder.top) + 0.15
    figure = Figure(figsize=((width + 2 * side) * UNIT, (high - low) * UNIT))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    axes.set_xlim(-side, width + side)
    axes.set_ylim(low, high)

    canvas = _Canvas(axes)
    memory = encoder.width + between - 0.45
    encoder.draw(canvas, 0, None)
    decoder.draw(canvas, encoder.width + between, memory)
    start = encoder.top - 0.3
    ends = [start, *decoder.attended]
    color = LOOKS["self_attention"].color
    canvas.line([(encoder.width, start), (memory, start)], color=color, zorder=4)
    canvas.line([(memory, min(ends)), (memory, max(ends))], color=color, zorder=4)

    marks = "Green line: the encoder's output. Double frame: fixed, not searched.\n"
    if family.pooled:
        marks += "Dot: a split that the operation reads. "
    marks += "× N: repeated, with other weights."
    canvas.text(width / 2, -1.05, marks, 7, color=GREY)
    return figure
