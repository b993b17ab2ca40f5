"""Directives that list options from where the program has them, so that no list goes stale."""

from __future__ import annotations

import argparse
import re
from dataclasses import fields
from importlib import import_module
from typing import Any

from docutils import nodes
from docutils.parsers.rst import directives
from fairseq.dataclass.utils import gen_parser_from_dataclass
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from fairseq_dartsformer.models.architectures import FFN_RATIOS, SIZES


def find(path: str) -> Any:
    """What is called ``module.name``."""
    module, _, name = path.rpartition(".")
    return getattr(import_module(module), name)


def parser_of(source: Any) -> argparse.ArgumentParser:
    """The parser of a command, or of a dataclass's fields, as fairseq makes one."""
    if not isinstance(source, type):
        return source()
    parser = argparse.ArgumentParser(add_help=False)
    gen_parser_from_dataclass(parser, source())
    # Fields without help take their values from other options.
    parser._actions = [action for action in parser._actions if action.help]
    return parser


def shown(action: argparse.Action) -> tuple[Any, ...]:
    """What a reader sees of an option."""
    return action.option_strings, action.default, action.help


class OptionList(SphinxDirective):
    """``option-list:: PATH``: the options of a command's ``get_parser``, or of a dataclass.

    ``:without: PATHS`` leaves out those that other dataclasses have, ``:only-new: PATHS`` those
    that are not different there.
    """

    required_arguments = 1
    option_spec = {"without": directives.unchanged, "only-new": directives.unchanged}

    def run(self) -> list[nodes.Node]:
        parser = parser_of(find(self.arguments[0]))
        actions = [action for action in parser._actions if action.dest != "help"]
        if "without" in self.options:
            others = map(find, self.options["without"].split())
            other = {field.name for source in others for field in fields(source)}
            actions = [action for action in actions if action.dest not in other]
        if "only-new" in self.options:
            others = map(parser_of, map(find, self.options["only-new"].split()))
            known = [shown(action) for other in others for action in other._actions]
            actions = [action for action in actions if shown(action) not in known]
        if not actions:
            raise self.error(f"{self.arguments[0]} has no options to list")
        items = [self.item(parser, action) for action in actions]
        return [nodes.definition_list("", *items, classes=["options"])]

    def item(
        self, parser: argparse.ArgumentParser, action: argparse.Action
    ) -> nodes.definition_list_item:
        """An option with its values, its default and its help."""
        names = ", ".join(action.option_strings) or action.metavar or action.dest
        values = "" if action.nargs == 0 or not action.option_strings else self.values(action)
        term = nodes.term("", "", nodes.literal(text=f"{names} {values}".rstrip()))
        term["ids"] = [nodes.make_id(f"{self.env.docname}-{self.arguments[0]}-{action.dest}")]
        text = parser._get_formatter()._expand_help(action) if action.help else ""
        text = text.replace(" (default: None)", "").replace(" (default: False)", "")
        default = action.default if isinstance(action.default, bool) else str(action.default)
        told = default in (False, "None", "", "[]", argparse.SUPPRESS) or "(default" in text
        if not told:
            text += f" (default: {default})"
        paragraph = nodes.paragraph("", "", *self.marked_up(text.strip()))
        return nodes.definition_list_item("", term, nodes.definition("", paragraph))

    def marked_up(self, text: str) -> list[nodes.Node]:
        """A help text, the options in it set as code."""
        parts = re.split(r"(?<!\w)(--[a-z][\w-]*)", text)
        kinds = (nodes.Text, lambda part: nodes.literal(text=part))
        return [kinds[i % 2](part) for i, part in enumerate(parts)]

    def values(self, action: argparse.Action) -> str:
        """What may follow the option."""
        if action.choices:
            return "{" + ",".join(map(str, action.choices)) + "}"
        name = action.metavar or getattr(action.type, "__name__", "X").upper()
        return {"STR": "TEXT", "INT": "N", "FLOAT": "X", "<LAMBDA>": "X"}.get(name, name)


class ArchitectureTable(SphinxDirective):
    """``architecture-table::`` the named sizes."""

    def run(self) -> list[nodes.Node]:
        head = ["--arch", "--embed-dim", "--hidden-dim", "--ffn-dim", "--attention-heads"]
        rows = [head]
        for model, sizes in SIZES.items():
            for suffix, size in sizes.items():
                ffn = int(size["hidden_dim"] * FFN_RATIOS[model])
                cells = (size.get("embed_dim"), size["hidden_dim"], ffn, size["attention_heads"])
                rows.append([model + suffix, *("" if c is None else str(c) for c in cells)])
        body = [nodes.row("", *map(self.cell, row)) for row in rows]
        group = nodes.tgroup("", *(nodes.colspec(colwidth=1) for _ in head), cols=len(head))
        group += [nodes.thead("", body[0]), nodes.tbody("", *body[1:])]
        return [nodes.table("", group)]

    def cell(self, text: str) -> nodes.entry:
        literal = nodes.literal if text.startswith(("--", "d", "e")) else nodes.inline
        return nodes.entry("", nodes.paragraph("", "", literal(text=text)))


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the directives."""
    app.add_directive("option-list", OptionList)
    app.add_directive("architecture-table", ArchitectureTable)
    return {"parallel_read_safe": True}
