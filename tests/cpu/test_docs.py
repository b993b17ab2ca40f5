"""The documentation builds, and names only files, commands, options and messages that exist."""

import ast
import os
import re
import shlex
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from pkgutil import resolve_name

import pytest
from fairseq import options
from fairseq.dataclass.configs import CommonConfig

from fairseq_dartsformer.models import config
from fairseq_dartsformer.optim.bilevel_adam import BilevelAdamConfig
from fairseq_dartsformer.search.penalties import NAMES as PENALTIES
from fairseq_dartsformer.search.registry import STRATEGIES
from fairseq_dartsformer.tasks.language_modeling_search import LanguageModelingSearchConfig
from fairseq_dartsformer.tasks.translation_search import TranslationSearchConfig

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = [*ROOT.glob("*.md"), *DOCS.glob("*.md")]
PAGES += [page for folder in ("examples", "tests") for page in (ROOT / folder).rglob("README.md")]
COMMANDS = [path.stem for path in (ROOT / "fairseq_dartsformer" / "cli").glob("[a-z]*.py")]
COMMANDS.remove("command")  # shared code
each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


def parser_of(command: str):
    return import_module(f"fairseq_dartsformer.cli.{command}").get_parser()


def test_sphinx_builds_without_warnings(tmp_path):
    command = [sys.executable, "-m", "sphinx", "-b", "dummy", "-W", "--keep-going", "-n", "-q"]
    settings = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "ignore"}
    run = subprocess.run(
        [*command, str(DOCS), str(tmp_path)], capture_output=True, text=True, env=settings
    )
    assert run.returncode == 0, run.stderr


def test_every_strategy_and_penalty_has_a_row():
    page = (DOCS / "strategies.md").read_text()
    for name in (*STRATEGIES, *PENALTIES):
        assert len(re.findall(rf"^\| `{name}` \|", page, re.MULTILINE)) == 1, name


def test_options_of_every_command_are_listed():
    page = (DOCS / "options.md").read_text()
    for command in COMMANDS:
        assert f"option-list:: fairseq_dartsformer.cli.{command}.get_parser" in page


@each_page
def test_links_lead_somewhere(page):
    """Links to files, pictures and headings; Sphinx does not see README files."""
    for target in re.findall(r'(?:\]\(|<img src=")([^)"\s]+)', page.read_text()):
        if re.match(r"\w+:", target):
            continue
        path, _, heading = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), target
        if heading and file.suffix == ".md":
            titles = re.findall(r"^#+ (.*)$", file.read_text(), re.MULTILINE)
            slugs = [re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles]
            assert heading in slugs, target


@each_page
def test_files_names_and_options_exist(page):
    """The repository's files, the package's modules and objects, and our commands' options."""
    text = page.read_text()
    for path in re.findall(r"(?:bash|python) ((?:examples|tests)/[\w./-]+)", text):
        assert (ROOT / path).exists(), path
    if page.stem != "CHANGELOG":  # gives the former names
        for path in re.findall(
            r"`((?:fairseq_dartsformer|examples|tests|configs)/[\w./-]+)`", text
        ):
            assert (ROOT / path).exists(), path
        for name in re.findall(r"\bfairseq_dartsformer(?:\.\w+)+", text):
            assert name.endswith(".NAME") or resolve_name(name), name
    for command, rest in re.findall(r"^dartsformer-(\w+) ((?:.*\\\n)*.*)$", text, re.MULTILINE):
        known = parser_of(command)._option_string_actions
        for option in re.findall(r"(?<!\S)(--[\w-]+)", rest.partition("#")[0]):
            passed_on = command in ("latency", "memory") and option[2:].replace("-", "_") in {
                *CommonConfig.__dataclass_fields__,
                *config.SearchConfig.__dataclass_fields__,
            }
            assert passed_on or option in known, f"{command} {option}"


def test_fairseq_takes_the_commands():
    """With all their options; nothing runs."""
    parsers = {
        "train": options.get_training_parser,
        "validate": options.get_validation_parser,
        "generate": options.get_generation_parser,
        "interactive": options.get_interactive_generation_parser,
    }
    taken = dict.fromkeys(parsers, 0)
    for page in PAGES:
        if page.stem == "extending":  # its plugin would stay registered
            continue
        for block in re.findall(r"^```bash\n(.*?)^```$", page.read_text(), re.M | re.S):
            lines = block.replace("\\\n", " ").replace("distributed-rank R ", "distributed-rank 1 ")
            for command, rest in re.findall(r"\bfairseq-(\w+) (\S+ --user-dir .*)", lines):
                given = shlex.split(re.split(r"[|#]| \d?>", rest)[0])
                given[given.index("--user-dir") + 1] = str(ROOT / "fairseq_dartsformer")
                options.parse_args_and_arch(parsers[command](), given)
                taken[command] += 1
    assert all(taken.values())


def test_messages_are_the_programs():
    """A string of the source makes up a third of every message on the page of troubleshooting."""
    templates = []
    for path in (ROOT / "fairseq_dartsformer").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            parts = node.values if isinstance(node, ast.JoinedStr) else [node]
            texts = [part.value if isinstance(part, ast.Constant) else None for part in parts]
            texts = [text if isinstance(text, str) else None for text in texts]
            size = sum(len(text or "") for text in texts)
            if 15 <= size < 300:
                pattern = "".join("(.*)" if text is None else re.escape(text) for text in texts)
                templates.append((size, re.compile(pattern)))
    page = (DOCS / "troubleshooting.md").read_text()
    messages = re.findall(r"^```\n(.*)\n```$", page, re.MULTILINE)
    assert messages
    unknown = [
        message
        for message in messages
        if not any(3 * n >= len(message) and t.search(message) for n, t in templates)
    ]
    assert unknown == []


def test_every_option_has_a_help():
    own = [value for value in vars(config).values() if isinstance(value, type)]
    for cls in (*own, BilevelAdamConfig, TranslationSearchConfig, LanguageModelingSearchConfig):
        for name, field in getattr(cls, "__dataclass_fields__", {}).items():
            taken = str(field.default).startswith("${") or name.startswith("_")
            assert taken or field.metadata.get("help"), f"{cls.__name__}.{name}"
