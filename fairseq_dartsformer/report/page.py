"""The report of a search as one self-contained HTML page."""

import math
import re
import shlex
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup
from matplotlib.figure import Figure

from .. import plots
from ..errors import InputError
from ..plots.style import LOOKS, in_words, text_color
from ..search_space.alpha_history import AlphaHistory
from ..search_space.genotype import Genotype
from .command import Options, command_line, training_options
from .facts import cost, duration, facts, summary
from .run import Run, Search

HERE = Path(__file__).parent


def render(search: Search, retrained: Sequence[Run] = (), command: str = "") -> str:
    """Render the page.

    Args:
        search: the search to report.
        retrained: trainings of networks that the search found, and others to compare with.
        command: the command line that makes the page.
    """
    # Names, options and errors come from files, so jinja escapes everything but our markup.
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    template = environment.from_string((HERE / "page.html").read_text(encoding="utf-8"))
    options = training_options(search.cfg)
    return template.render(
        title=f"Search: {search.folder.resolve().name}",
        style=Markup((HERE / "page.css").read_text(encoding="utf-8")),
        summary=summary(search),
        progress=search.progress,
        facts=facts(search),
        warnings=[f"Left out: {message}" for message in search.unreadable],
        genotype=search.genotype and search.genotype.to_json(),
        stacks=search.snapshot.family.stacks,
        history=search.history,
        choices=_choices(search.history) if search.history else [],
        figures=_figures(search),
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
    """For each checkpoint: updates, the choice of each node, and whether that choice is new."""
    rows = list(zip(*(node.chosen for node in history.nodes), strict=True))
    new = [[a != b for a, b in zip(*pair, strict=True)] for pair in pairwise([rows[0], *rows])]
    return list(zip(history.updates, rows, new, strict=True))


def _figures(search: Search) -> dict[str, Markup]:
    losses = search.losses()
    drawn = {"losses": plots.losses_figure(losses)} if any(losses.values()) else {}
    if search.history:
        drawn |= {
            "genotype": plots.genotype_figure(search.genotype),
            "choices": plots.choices_figure(search.history),
            "alpha": plots.alpha_figure(search.history),
        }
    return {name: inline(figure, name) for name, figure in drawn.items()}


def inline(figure: Figure, name: str) -> Markup:
    """Make an SVG element of a figure; ``name`` keeps its ids apart from other figures'."""
    text = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{name}-", plots.svg(figure))
    width = f"{figure.get_figwidth():.2f}in"
    attributes = f'role="img" aria-label="{name}" style="--width: {width}"'
    return Markup(text.replace("<svg", f"<svg {attributes}", 1))


def _losses_caption(search: Search) -> str:
    logged = search.log.curve("train_inner", "loss")
    source = "as logged" if logged else "means from one checkpoint to the next"
    return f"Loss in bits a token, {source}; each level's on its part of the data."


def _checkpoints(search: Search) -> list[list[str]]:
    """Rows of the table of checkpoints."""
    means = [dict(search.interval_means(f"loss_{level}")) for level in ("weights", "alpha")]
    rows = []
    for checkpoint in search.checkpoints:
        losses = [mean.get(checkpoint.updates) for mean in means] + [checkpoint.validation]
        cells = ["" if loss is None else f"{loss:.3f}" for loss in losses]
        rows.append([f"{checkpoint.updates:,}", duration(checkpoint.seconds), *cells])
    return rows


def _retrained(run: Run, search: Search) -> list[str]:
    """A row of the table of retrainings."""
    best, scores = run.last.best, []
    perplexity = run.perplexity(best)
    for path in sorted(run.folder.glob("generate-*.txt")):  # of fairseq-generate --results-path
        text = path.read_text(encoding="utf-8", errors="replace")
        scores += re.findall(r"^Generate .*: (.*BLEU.*)$", text, re.MULTILINE)
    for path in sorted(run.folder.glob("eval-*.txt")):  # the output of fairseq-eval-lm
        text = path.read_text(encoding="utf-8", errors="replace")
        scores += re.findall(r"Loss \(base 2\): .*, (Perplexity: .*)$", text, re.MULTILINE)
    return [
        str(run.folder),
        str(run.option("model", "_name")),
        _whose(run.option("model", "genotype"), search),
        f"{run.parameters:,}",
        f"{run.updates:,}",
        duration(run.last.seconds),
        cost(run)[0],
        ("unknown" if best is None else f"{best:.3f}")
        + ("" if perplexity is None else f", perplexity {perplexity:,.1f}"),
        "; ".join(scores) or "none",
    ]


def _whose(genotype: object, search: Search) -> str:
    if not genotype:
        return "none"
    try:
        return "this search's" if Genotype.load(str(genotype)) == search.genotype else "another"
    except InputError:
        return "unknown"


def _settings(search: Search, options: Options | None) -> list[tuple[str, str]]:
    snapshot = search.snapshot
    rows = [("family", snapshot.family.name), ("parameters", f"{search.parameters:,}")]
    if snapshot.pooling:
        rows.append(("pooling", snapshot.pooling))
    rows.append(("norm of operations", snapshot.norm))
    for stack, alpha in snapshot.alpha.items():
        layers, nodes, _ = alpha.shape
        block = f"{layers} layers of {nodes} searched {snapshot.family.node}s"
        rows.append((f"{stack}'s block", block))
        rows.append((f"{stack}'s candidates", ", ".join(snapshot.candidates[stack])))
    return rows + [(name, "yes" if v is None else v) for name, v in (options or {}).items()]


def _commands(
    search: Search, options: Options | None, retrained: Sequence[Run], command: str
) -> list[tuple[str, str]]:
    """Commands that repeat everything on the page, each with a caption."""
    found = [("The search.", _training(search, options))]
    if search.genotype:
        last = shlex.quote(str(search.last.path))
        found.append(("Its genotype.", f"dartsformer-derive {last} -o genotype.json"))
    for run in retrained:
        found.append((f"The training in {run.folder}.", _training(run, training_options(run.cfg))))
    return [*found, ("This page.", command)] if command else found


def _training(run: Run, options: Options | None) -> str:
    if options is None:
        return "# this version of the project cannot write a command for its configuration"
    text = command_line(str(run.option("task", "data")), options)
    if "--distributed-no-spawn" in options:
        text = f"# one process for each rank R\n{text} \\\n  --distributed-rank R"
    return text
