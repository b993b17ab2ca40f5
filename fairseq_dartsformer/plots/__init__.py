"""Figures of a genotype, of alpha over time, of losses, of latency and of memory.

Each function draws one figure and returns it; :func:`save` writes it to a file. The functions read
no files and leave matplotlib's global state alone, so they can run during training.
"""

from .alpha import alpha_figure
from .choices import choices_figure
from .genotype import genotype_figure
from .latency import latency_figure, pareto_front
from .losses import losses_figure
from .memory import memory_figure
from .style import save, svg

__all__ = [
    "alpha_figure",
    "choices_figure",
    "genotype_figure",
    "latency_figure",
    "losses_figure",
    "memory_figure",
    "pareto_front",
    "save",
    "svg",
]
