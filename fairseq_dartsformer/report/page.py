"""The report of a search as one HTML page, which needs nothing beside itself."""

from __future__ import annotations

import math
import re
import shlex
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup
from matplotlib.figure import Figure

from .. import plots
from ..errors import InputError
from ..plots.style import LOOKS, in_words, text_color
from ..search_space.alpha_history import AlphaHistory
from ..search_space.genotype import Genotype
from .command import command_line, training_options
from .facts import cost, duration, facts, progress, summary
from .run import Run, Search

HERE = Path(__file__).parent


def render(search: Search, retrained: Sequence[Run] = (), command: str = "") -> str:
    """The page.

    Args:
        search: what it is about.
        retrained: trainings of networks that the search found, and others to compare with.
        command: the command line that makes the page.
    """
    # Names, options and errors come from files: jinja escapes all that is not marked up here.
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    template = environment.from_string((HERE / "page.html").read_text(encoding="utf-8"))
    history = search.history
    losses = search.losses()
    options = training_options(search.cfg)
    return template.render(
        title=f"Search: {search.folder.resolve().name}",
        style=Markup((HERE / "page.css").read_text(encoding="utf-8")),
        summary=summary(search),
        progress=progress(search),
        facts=facts(search),
        warnings=[f"Left out: {message}" for message in search.unreadable],
        genotype=search.genotype.to_json() if search.genotype else None,
        history=history,
        choices=list(_choices(history)) if history else [],
        figures=_figures(search, losses),
        losses_caption=_losses_caption(search),
        checkpoints=_checkpoints(search),
        retrained=[_retrained(run, search) for run in retrained],
        settings=_settings(search, options),
        commands=_commands(search, options, retrained, command),
        looks=LOOKS,
        in_words=in_words,
        text_color=text_color,
        ln=math.log,
    )


def _choices(history: AlphaHistory) -> list[tuple[int, list[str], list[bool]]]:
    """For each checkpoint its updates, the choice of each node, and which are new."""
    rows = list(zip(*(node.chosen for node in history.nodes), strict=True))
    return [
        (updates, list(now), [a != b for a, b in zip(before, now, strict=True)])
        for updates, (before, now) in zip(history.updates, pairwise([rows[0], *rows]), strict=True)
    ]


def _figures(search: Search, losses: Mapping[str, Sequence]) -> dict[str, Markup | None]:
    drawn: dict[str, Figure | None] = {
        "losses": plots.losses_figure(losses) if any(losses.values()) else None
    }
    if search.history and search.genotype:
        drawn |= {
            "genotype": plots.genotype_figure(search.genotype),
            "choices": plots.choices_figure(search.history),
            "alpha": plots.alpha_figure(search.history),
            "heat": plots.heat_figure(search.history),
            "certainty": plots.certainty_figure(search.history),
        }
    return {name: figure and inline(figure, name) for name, figure in drawn.items()}


def inline(figure: Figure, name: str) -> Markup:
    """A figure as an SVG element whose ids no other figure on the page has."""
    text = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{name}-", plots.svg(figure))
    width = f"{figure.get_figwidth():.2f}in"
    attributes = f'role="img" aria-label="{name}" style="--width: {width}"'
    return Markup(text.replace("<svg", f"<svg {attributes}", 1))


def _losses_caption(search: Search) -> str:
    logged = search.log.curve("train_inner", "loss")
    source = "as logged" if logged else "means from one checkpoint to the next"
    return f"Loss in bits a word, {source}; of weights and alpha each on its part of the data."


def _checkpoints(search: Search) -> list[list[str]]:
    """A row a checkpoint."""
    means = {name: dict(search.interval_means(f"loss_{name}")) for name in ("weights", "alpha")}
    rows = []
    for snapshot in search.checkpoints:
        of_levels = [means[name].get(snapshot.updates) for name in means]
        values = [*of_levels, snapshot.validation]
        cells = ["" if value is None else f"{value:.3f}" for value in values]
        rows.append([f"{snapshot.updates:,}", duration(snapshot.seconds), *cells])
    return rows


def _retrained(run: Run, search: Search) -> list[str]:
    """A row of the table of retrainings."""
    best = run.last.best
    return [
        str(run.folder),
        str(run.option("model", "_name")),
        _whose(run.option("model", "genotype"), search),
        f"{run.parameters:,}",
        f"{run.updates:,}",
        duration(run.last.seconds),
        cost(run)[0],
        "unknown" if best is None else f"{best:.3f}",
        "; ".join(_scores(run.folder)) or "none",
    ]


def _whose(genotype: object, search: Search) -> str:
    if not genotype:
        return "none"
    try:
        return "this search's" if Genotype.load(str(genotype)) == search.genotype else "another"
    except InputError:
        return "unknown"


def _scores(folder: Path) -> list[str]:
    """What ``fairseq-generate --results-path`` with this folder has found."""
    found = []
    for path in sorted(folder.glob("generate-*.txt")):
        text = path.read_text(encoding="utf-8", errors="replace")
        found += re.findall(r"^Generate .*: (.*BLEU.*)$", text, re.MULTILINE)
    return found


def _settings(search: Search, options: Mapping[str, str | None] | None) -> list[tuple[str, str]]:
    result = search.result
    rows = [("family", result.family.name), ("parameters", f"{search.parameters:,}")]
    if result.pooling:
        rows.append(("pooling", result.pooling))
    for stack, alpha in result.alpha.items():
        layers, nodes, _ = alpha.shape
        rows.append(
            (f"{stack}'s block", f"{layers} layers of {nodes} searched {result.family.node}s")
        )
        rows.append((f"{stack}'s candidates", ", ".join(result.candidates[stack])))
    given = options or {}
    rows += [(option, "yes" if value is None else value) for option, value in given.items()]
    return rows


def _commands(
    search: Search,
    options: Mapping[str, str | None] | None,
    retrained: Sequence[Run],
    command: str,
) -> list[tuple[str, str]]:
    """What to type to do it all again, each with what it does."""
    found = [("The search.", _training(search, options))]
    if search.genotype:
        last = shlex.quote(str(search.last.path))
        found.append(("Its genotype.", f"dartsformer-derive {last} -o genotype.json"))
    for run in retrained:
        found.append((f"The training in {run.folder}.", _training(run, training_options(run.cfg))))
    if command:
        found.append(("This page.", command))
    return found


def _training(run: Run, options: Mapping[str, Any] | None) -> str:
    if options is None:
        return "# its configuration is of another model or version than this project's"
    data = str(run.option("task", "data"))
    text = command_line(data, dict(options))
    if "--distributed-no-spawn" in options:
        text = f"# one process for each rank R of {run.workers}\n{text} \\\n  --distributed-rank R"
    return text
