"""Pictures of a genotype: the searched block of each stack (the paper's Figures 2 and 4)."""

from matplotlib import patheffects
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle, FancyBboxPatch

from ..operations import NORMS
from ..search_space.families import FAMILIES
from ..search_space.genotype import Genotype
from .style import GREY, INK, LOOKS, check_size, in_words, text_color

# Lengths are in units of the drawing, fonts in points.
UNIT = 0.45  # inches
BOX = (1.5, 0.68)  # width and height of an operation
FRAME = 0.08  # between an operation's two frames
PITCH = 2.25  # between the streams of two splits
LINE = 1.1  # width of a line in points
LAYER = "#f2f2f2"
MEMORY = LOOKS["self_attention"].color  # of the encoder's output
NAMES = {"encoder": "source", "decoder": "target"}


class _Canvas:
    """Lines, boxes and arrows in the drawing's units."""

    def __init__(self, axes: Axes):
        self.axes = axes

    def text(self, x: float, y: float, text: str, size: float = 8, **options) -> None:
        options = {"ha": "center", "va": "center", "color": INK} | options
        self.axes.text(x, y, text, fontsize=size, linespacing=1, **options)

    def line(self, *points: tuple[float, float], over: str | None = None, **options) -> None:
        """A polyline; if ``over`` is the ground's colour, it jumps over the lines it crosses."""
        options = {"color": INK, "linewidth": LINE, "zorder": 3, "solid_capstyle": "butt"} | options
        (line,) = self.axes.plot(*zip(*points, strict=True), **options)
        if over:
            gap = patheffects.Stroke(linewidth=options["linewidth"] + 4, foreground=over)
            line.set_path_effects([gap, patheffects.Normal()])

    def arrow(
        self,
        start: tuple[float, float],
        end: tuple[float, float],
        over: str | None = None,
        color: str = INK,
        zorder: int = 3,
    ) -> None:
        """A horizontal or vertical line with a head at its end."""
        (x, y), (to_x, to_y) = start, end
        share = 0.12 / (abs(to_x - x) + abs(to_y - y))  # the head covers the rest
        shaft = (to_x - share * (to_x - x), to_y - share * (to_y - y))
        self.line(start, shaft, over=over, color=color, zorder=zorder)
        style = {"arrowstyle": "-|>,head_width=0.18,head_length=0.36", "color": color}
        style |= {"linewidth": 0, "shrinkA": 0, "shrinkB": 0, "mutation_scale": 12}
        self.axes.annotate("", end, start, arrowprops=style, zorder=zorder + 1)

    def box(self, x: float, y: float, size: tuple[float, float], text: str, color: str, **options):
        """A box with its centre at ``(x, y)``."""
        corner = (x - size[0] / 2, y - size[1] / 2)
        options = {"edgecolor": INK, "linewidth": 0.8, "zorder": 6} | options
        style = "round,pad=0,rounding_size=0.1"
        self.axes.add_patch(FancyBboxPatch(corner, *size, style, facecolor=color, **options))
        self.text(x, y, text, color=text_color(color), zorder=7)

    def operation(self, x: float, y: float, name: str, fixed: bool) -> None:
        """The box of an operation; a double frame means that it was not searched."""
        words = in_words(name)
        if len(words) > 10:  # what fits one line
            words = words.replace(" ", "\n", 1)
        self.box(x, y, BOX, words, LOOKS[name].color)
        if fixed:
            self.box(x, y, (BOX[0] + 2 * FRAME, BOX[1] + 2 * FRAME), "", "white", zorder=5)

    def sum(self, x: float, y: float) -> None:
        """The addition of Eq. 3."""
        self.axes.add_patch(Circle((x, y), 0.15, facecolor="white", edgecolor=INK, zorder=6))
        self.line((x - 0.15, y), (x + 0.15, y), linewidth=0.8, zorder=7)
        self.line((x, y - 0.15), (x, y + 0.15), linewidth=0.8, zorder=7)


class _Stack:
    """The block of one stack, drawn from the bottom up.

    Attributes:
        width, top: size of the drawing.
        attended: heights at which cross attention reads the encoder's output.
    """

    margin = 0.55  # between a layer's ground and its nodes
    gap = 0.35  # between layers
    head = 1.15  # below and above the block

    def __init__(self, canvas: _Canvas, name: str, genotype: Genotype):
        self.canvas, self.name, self.pooling = canvas, name, genotype.pooling
        self.block, self.family = getattr(genotype, name), FAMILIES[genotype.family]
        self.nodes = len(self.block[0])
        self.pools = self.family.pooled and self.nodes > 2
        if self.family.pooled:
            self.step = 2.0 if self.pools else 1.35
            self.width = self.nodes * PITCH + self.margin
        else:
            self.step = 1.25
            self.width = BOX[0] + 2 * 1.05  # with the layer's name beside the node
        self.layer_height = self.nodes * self.step + 0.2
        self.height = len(self.block) * (self.layer_height + self.gap) - self.gap
        self.top = self.height + 2 * self.head
        self.attended: list[float] = []

    def draw(self, left: float, memory: float | None) -> None:
        """Draw the stack with its lower left corner at ``(left, 0)``.

        Args:
            left: left edge.
            memory: where the encoder's output runs up; ``None`` if the stack does not read it.
        """
        canvas, self.left, self.memory = self.canvas, left, memory
        middle = left + self.width / 2
        pitches = range(1, self.nodes + 1)
        self.streams = [left + k * PITCH - 0.1 for k in pitches] if self.family.pooled else [middle]
        bottom, top = self.head, self.head + self.height
        text = NAMES[self.name] if len(self.family.stacks) > 1 else "text"
        canvas.box(middle, 0.3, (self.width, 0.5), f"{text} embedding", "white")
        canvas.box(middle, self.top - 0.3, (self.width, 0.5), "LayerNorm", "white")
        for k, x in enumerate(self.streams):
            canvas.arrow((x, 0.55), (x, self.top - 0.55), zorder=2)
            if self.family.pooled:
                for letter, y in (("X", bottom - 0.28), ("Y", top + 0.2)):
                    canvas.text(x + 0.12, y, f"${letter}_{{{k + 1}}}$", ha="left", size=9)
        for i in range(len(self.block)):
            self._layer(i, bottom + i * (self.layer_height + self.gap))
        repeat = left + self.width + 0.22
        canvas.line((repeat - 0.1, bottom), (repeat, bottom), (repeat, top), (repeat - 0.1, top))
        canvas.text(repeat + 0.12, (bottom + top) / 2, r"$\times N$", ha="left", size=10)
        canvas.text(middle, -0.35, self.name, size=10, fontweight="bold")

    def _layer(self, i: int, bottom: float) -> None:
        middle = (self.left + self.width / 2, bottom + self.layer_height / 2)
        ground = (self.width, self.layer_height)
        self.canvas.box(*middle, ground, "", LAYER, edgecolor="none", zorder=0)
        corner = (self.left + 0.12, bottom + self.layer_height - 0.14)
        self.canvas.text(*corner, f"layer {i + 1}", 7.5, ha="left", va="top", color=GREY)
        for k, name in enumerate(self.block[i]):
            fixed = self.family.is_fixed(self.name, k, self.nodes)
            draw = self._split if self.family.pooled else self._node
            x, y = draw(k, name, fixed, bottom + 0.1 + k * self.step)
            if name == "cross_attention" and self.memory is not None:
                self.attended.append(y)
                self.canvas.line((self.memory, y), (self.left, y), color=MEMORY, zorder=4)
                end = (x - BOX[0] / 2, y)
                self.canvas.arrow((self.left, y), end, over=LAYER, color=MEMORY, zorder=4)

    def _split(self, k: int, name: str, fixed: bool, bottom: float) -> tuple[float, float]:
        """Draw `Y_k = X_k + G_k(X_{i>k}, Y_{i<k})` (Eq. 3) and return the place of `G_k`."""
        canvas, stream = self.canvas, self.streams[k]
        x, y = stream - BOX[0] / 2 - 0.44, bottom + self.step - 0.48
        bus, frame = bottom + 0.22, FRAME if fixed else 0
        below, right = y - BOX[1] / 2 - frame, x + BOX[0] / 2 + frame
        sources = [self.streams[i] for i in range(self.nodes) if i != k]
        canvas.line((min(*sources, x), bus), (max(*sources, x), bus), over=LAYER)
        for source in sources:  # the bus does not jump over a stream that it reads
            canvas.line((source, bus - 0.2), (source, bus + 0.2))
            canvas.axes.add_patch(Circle((source, bus), 0.065, color=INK, zorder=5))
        start = bus
        if self.pools:  # Eq. 5
            canvas.arrow((x, bus), (x, bus + 0.31))
            canvas.box(x, bus + 0.48, (1.2, 0.34), f"{self.pooling} pool", "white", linewidth=0.6)
            start = bus + 0.65
        canvas.arrow((x, start), (x, below))
        canvas.operation(x, y, name, fixed)
        canvas.arrow((right, y), (stream - 0.14, y))
        canvas.sum(stream, y)
        return x, y

    def _node(self, k: int, name: str, fixed: bool, bottom: float) -> tuple[float, float]:
        """Draw a node of a family without splits and return its place."""
        (x,), y = self.streams, bottom + self.step / 2 + 0.05
        below = y - BOX[1] / 2 - (FRAME if fixed else 0)
        self.canvas.operation(x, y, name, fixed)
        self.canvas.arrow((x, below - 0.2), (x, below))
        return x, y


def genotype_figure(genotype: Genotype) -> Figure:
    """Draw the searched block of each stack, from the embeddings up; raise an :class:`InputError`
    if there are too many nodes.

    The stream of each split runs upwards. An operation is left of the stream that it is added to,
    and a dot marks each stream that it reads.
    """
    check_size(sum(len(layer) for block in genotype.blocks.values() for layer in block))
    figure = Figure()
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    canvas = _Canvas(axes)
    *encoders, decoder = stacks = [_Stack(canvas, stack, genotype) for stack in genotype.blocks]
    between = 2.0  # for the encoder's repeat mark and the line of its output
    left = sum(encoder.width + between for encoder in encoders)
    width = left + decoder.width + 0.9
    side, low, high = 0.15, -1.4, max(stack.top for stack in stacks) + 0.15
    figure.set_size_inches((width + 2 * side) * UNIT, (high - low) * UNIT)
    axes.set_xlim(-side, width + side)
    axes.set_ylim(low, high)

    memory = left - 0.45 if encoders else None
    for encoder in encoders:
        encoder.draw(0, None)
    decoder.draw(left, memory)
    marks = ""
    for encoder in encoders:
        start = encoder.top - 0.3
        ends = [start, *decoder.attended]
        canvas.line((encoder.width, start), (memory, start), color=MEMORY, zorder=4)
        canvas.line((memory, min(ends)), (memory, max(ends)), color=MEMORY, zorder=4)
        marks = "Green line: the encoder's output. Double frame: fixed, not searched.\n"
    if genotype.norm != "post":
        marks = f"An operation o with parameters computes {NORMS[genotype.norm].formula}.\n{marks}"
    if FAMILIES[genotype.family].pooled:
        marks += "Dot: a split that the operation reads." + (" " if encoders else "\n")
    canvas.text(width / 2, -1.05, f"{marks}× N: repeated, with other weights.", 7, color=GREY)
    return figure
