"""Colours, names and files of all figures."""

import io
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator, StrMethodFormatter

from ..errors import InputError
from ..operations import DECODER_OPERATIONS

FONT = 8  # points
GREY = "#767676"
INK = "#1a1a1a"
MOST_NODES = 200  # the paper's largest searches have 18


class Look(NamedTuple):
    """Appearance of an operation: hue and marker tell families apart, lightness and dashes the
    operations of a family."""

    color: str
    marker: str
    dashes: Any

    @property
    def line(self) -> dict[str, Any]:
        """Arguments of matplotlib's ``Line2D``."""
        return {"color": self.color, "marker": self.marker, "linestyle": self.dashes}


def _family(marker: str, **colors: str) -> dict[str, Look]:
    """Looks of a family from light to dark; the darkest line is solid."""
    dashes = ("-", (0, (5, 1)), (0, (3, 1, 1, 1)), (0, (1, 1)))[len(colors) - 1 :: -1]
    pairs = zip(colors.items(), dashes, strict=True)
    return {name: Look(color, marker, style) for (name, color), style in pairs}


class _Looks(dict[str, Look]):
    """Operations of plugins get a look when they are first drawn, from yellow to olive in turn."""

    SPARE = ("#f0e442", "#8f8600", "#c9bd1f", "#4d4800")

    def __missing__(self, operation: str) -> Look:
        turn, member = divmod(len(self) - len(DECODER_OPERATIONS), len(self.SPARE))
        return self.setdefault(operation, Look(self.SPARE[member], "Pp*"[turn % 3], "-"))


# Blue, orange, green, reddish purple and grey (after Okabe and Ito): colour-blind readers can tell
# them apart.
LOOKS = _Looks(
    **_family("o", conv_3="#b7dbf5", conv_5="#56a4db", conv_7="#1e61b5", conv_11="#0a3569"),
    **_family(
        "s",
        dynamic_conv_3="#fada91",
        dynamic_conv_7="#f59331",
        dynamic_conv_11="#cd4009",
        dynamic_conv_15="#7d2c02",
    ),
    **_family("^", cross_attention="#71d3a5", self_attention="#057647"),
    **_family("D", glu="#e6a5c8", ffn="#b8378a"),
    **_family("X", zero="#979797", identity="#5c5c5c"),
)


def in_words(operation: str) -> str:
    """Name of an operation in figures, such as ``conv 11``, ``self attention`` or ``FFN``."""
    return operation.upper() if operation in ("ffn", "glu") else operation.replace("_", " ")


def text_color(background: str) -> str:
    """Black or white, whichever has more contrast (by WCAG's relative luminance)."""
    linear = [
        c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(background)
    ]
    luminance = sum(w * c for w, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))
    return "white" if luminance < 0.179 else INK


def plain(axes: Axes) -> None:
    """Remove the frame of axes whose x axis counts updates, and format that axis."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=FONT - 1)
    axes.xaxis.set_major_locator(MaxNLocator(3, integer=True))
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))


def check_size(nodes: int) -> None:
    """Raise an :class:`InputError` if a figure of so many nodes would take hours to draw and could
    not be read."""
    if nodes > MOST_NODES:
        raise InputError(f"a figure of {nodes} nodes cannot be drawn: at most {MOST_NODES}")


def legend(figure: Figure, handles: dict[str, Line2D | Patch]) -> None:
    """Add a legend below all panels: one row, or columns of four (the size of a family)."""
    figure.legend(
        handles.values(),
        handles.keys(),
        loc="outside lower center",
        ncols=len(handles) if len(handles) < 5 else -(-len(handles) // 4),
        frameon=False,
        fontsize=FONT - 0.5,
        handlelength=3,
    )


def save(figure: Figure, path: Path | io.BytesIO, kind: str) -> None:
    """Write a figure; equal figures give equal bytes.

    Args:
        figure: the figure to write.
        path: a file or buffer.
        kind: ``"pdf"``, ``"png"`` or ``"svg"``.
    """
    undated: dict[str, Any] = {
        "svg": dict.fromkeys(("Date", "Creator", "Format", "Type")),
        "pdf": {"CreationDate": None},
    }
    with matplotlib.rc_context({"svg.hashsalt": "dartsformer", "pdf.fonttype": 42}):
        figure.savefig(path, format=kind, dpi=200, metadata=undated.get(kind))


def svg(figure: Figure) -> str:
    """The figure as an ``<svg>`` element, without the XML prologue."""
    buffer = io.BytesIO()
    save(figure, buffer, "svg")
    text = buffer.getvalue().decode()
    return text[text.index("<svg") :]
