"""Sphinx's configuration. Building: `sphinx-build -W --keep-going -n docs build/docs`."""

import re
import sys
from pathlib import Path

import fairseq_dartsformer.cli  # noqa: F401  (turns off the log that importing fairseq turns on)

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE / "_ext"), str(HERE)]  # the directives; and the extensions' package

project = "DARTSformer for fairseq"
author = "The DARTSformer for fairseq authors"
html_title = project
html_theme = "furo"
smartquotes = False  # it makes one dash of an option's two
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.mathjax"]
extensions += ["option_lists"]
exclude_patterns = ["README.md"]

# html_image: `<img ...>` is what GitHub shows, too, and has a width.
myst_enable_extensions = ["colon_fence", "deflist", "dollarmath", "html_image"]
myst_heading_anchors = 4
nb_execution_mode = "off"  # a reader's own search is what the notebook opens

default_role = "code"  # docstrings give shapes so: `T × B × C`
autodoc_member_order = "bysource"
autodoc_default_options = {
    "members": True,
    "show-inheritance": True,
    "ignore-module-all": True,  # a package's page would repeat its modules'
}
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
napoleon_google_docstring, napoleon_numpy_docstring = True, False
napoleon_use_ivar = True  # attributes are in their class's text already
# Types of other projects, which have no pages here, and private ones.
nitpick_ignore_regex = [(r"py:.*", r"(?!fairseq_dartsformer).*"), (r"py:.*", r".*\._\w+")]


def name_files(app, docname: str, source: list[str]) -> None:
    """Name the repository's files outside of this folder, in place of links that lead nowhere.

    A link from a name in the code to its file becomes one to the API.
    """

    def named(link: re.Match) -> str:
        text, path = link.groups()
        name, module = text.strip("`"), path.removesuffix(".py").replace("/", ".")
        if name.isidentifier() and text != name and module.startswith("fairseq_dartsformer"):
            return f"{{py:obj}}`{name} <{module}.{name}>`"
        return text if text.startswith("`") else f"{text} (`{path}`)"

    source[0] = re.sub(r"\[([^][]*)\]\(\.\./([^)]*)\)", named, source[0])


def setup(app) -> None:
    app.connect("source-read", name_files)
