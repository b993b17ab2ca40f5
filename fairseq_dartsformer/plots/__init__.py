"""Figures: of memory, of a genotype, and of alpha over time.

Each function draws one and returns it; :func:`save` writes it. Nothing here reads a file or touches
matplotlib's global state, so that figures can be drawn while a training runs.
"""

from .alpha import alpha_figure, certainty_figure, heat_figure
from .choices import choices_figure
from .genotype import genotype_figure
from .losses import losses_figure
from .memory import memory_figure
from .style import save, svg

__all__ = [
    "alpha_figure",
    "certainty_figure",
    "choices_figure",
    "genotype_figure",
    "heat_figure",
    "losses_figure",
    "memory_figure",
    "save",
    "svg",
]
