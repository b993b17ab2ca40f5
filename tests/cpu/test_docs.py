"""The documentation: it builds, and says what the program says."""

import ast
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.glob("*.md"))
READMES = [
    *ROOT.glob("*.md"),
    *(path for folder in ("examples", "tests") for path in (ROOT / folder).rglob("README.md")),
]


def relative(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The folder of the pages as Sphinx makes them, warnings being errors."""
    out = tmp_path_factory.mktemp("docs")
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-n", "-q"]
    command += ["-d", str(out / "doctrees"), str(DOCS), str(out / "html")]
    settings = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "ignore"}
    run = subprocess.run(command, capture_output=True, text=True, timeout=240, env=settings)
    assert run.returncode == 0, run.stderr
    return out / "html"


def test_pages_list_every_option_and_name(built):
    options = (built / "options.html").read_text()
    for option in (
        *("--search-layers", "--genotype", "--embed-dim", "--share-all-embeddings"),
        *("--arch-fraction", "--stop-unchanged", "--arch-lr", "--label-smoothing"),
        *("--exclude", "--kind", "--retrained", "--max-parameters", "--last", "--gpu"),
    ):
        assert re.search(rf">{option}\b", options), option
    assert "dartsformer_big" in options and "9728" in options
    api = (built / "api.html").read_text()
    for name in (
        "search_result.derive",
        "plots.alpha.alpha_figure",
        "operations.register_operation",
    ):
        assert f'id="fairseq_dartsformer.{name}"' in api
    extending = (built / "extending.html").read_text()
    for name in ("register_operation", "register_strategy", "RepairSearchTask"):
        assert name in extending


def test_no_option_is_left_out_that_has_no_help():
    """Of the task, the optimizer and the models; the page lists those that have one."""
    from fairseq_dartsformer.models import config
    from fairseq_dartsformer.optim.bilevel_adam import BilevelAdamConfig
    from fairseq_dartsformer.tasks.translation_search import TranslationSearchConfig

    own = [value for value in vars(config).values() if isinstance(value, type)]
    for cls in (*own, BilevelAdamConfig, TranslationSearchConfig):
        for name, field in getattr(cls, "__dataclass_fields__", {}).items():
            taken = str(field.default).startswith("${") or name.startswith("_")
            assert taken or field.metadata.get("help"), f"{cls.__name__}.{name}"


def templates() -> list[re.Pattern]:
    """What the strings of the program's sources can be, whatever is filled in."""
    found = []
    for path in (ROOT / "fairseq_dartsformer").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            parts = node.values if isinstance(node, ast.JoinedStr) else [node]
            texts = [part.value if isinstance(part, ast.Constant) else None for part in parts]
            fixed = "".join(text for text in texts if isinstance(text, str))
            if len(fixed) >= 15:
                found.append(
                    re.compile(
                        "".join(re.escape(t) if isinstance(t, str) else "(.*)" for t in texts)
                    )
                )
    return found


def test_messages_are_the_programs():
    """Those that stand by themselves on the page."""
    page = (DOCS / "troubleshooting.md").read_text()
    messages = re.findall(r"^```\n(.*)\n```$", page, re.MULTILINE)
    assert len(messages) > 20
    known = templates()
    for message in messages:
        assert any(t.fullmatch(message) for t in known), message


@pytest.mark.parametrize("page", [*PAGES, *READMES], ids=relative)
def test_commands_name_what_exists(page):
    """Files of the repository, and options of our own commands."""
    from importlib import import_module

    text = page.read_text()
    for path in re.findall(r"(?:bash|python) ((?:examples|tests)/[\w./-]+)", text):
        assert (ROOT / path).exists(), path
    for command, rest in re.findall(r"^dartsformer-(\w+) ((?:.*\\\n)*.*)$", text, re.MULTILINE):
        parser = import_module(f"fairseq_dartsformer.cli.{command}").get_parser()
        for option in re.findall(r"(?<!\S)(--[\w-]+)", rest.partition("#")[0]):
            passed_on = command == "memory" and option == "--share-all-embeddings"
            assert passed_on or option in parser._option_string_actions, f"{command} {option}"


def test_help_is_plain_text():
    from importlib import import_module

    for path in (ROOT / "fairseq_dartsformer" / "cli").glob("[a-z]*.py"):
        text = import_module(f"fairseq_dartsformer.cli.{path.stem}").get_parser().format_help()
        assert f"dartsformer-{path.stem}: " in text
        assert "``" not in text and "default: None" not in " ".join(text.split())


def test_fairseqs_commands_are_taken_by_fairseq():
    """With all of their options; nothing is run."""
    from fairseq import options

    parsers = {
        "train": options.get_training_parser,
        "validate": options.get_validation_parser,
        "generate": options.get_generation_parser,
        "interactive": options.get_interactive_generation_parser,
    }
    taken = dict.fromkeys(parsers, 0)
    for page in (*PAGES, *READMES):
        if page.stem == "extending":  # its plugin would stay registered
            continue
        for block in re.findall(r"^```bash\n(.*?)^```$", page.read_text(), re.M | re.S):
            whole = block.replace("\\\n", " ").replace("distributed-rank R ", "distributed-rank 1 ")
            for command, rest in re.findall(r"\bfairseq-(\w+) (\S+ --user-dir .*)", whole):
                given = shlex.split(re.split(r"[|#]| \d?>", rest)[0])
                given[given.index("--user-dir") + 1] = str(ROOT / "fairseq_dartsformer")
                options.parse_args_and_arch(parsers[command](), given)
                taken[command] += 1
    assert all(taken.values())


@pytest.mark.parametrize("page", [*PAGES, *READMES], ids=relative)
def test_links_lead_somewhere(page):
    """Those to files, pictures and headings of other pages; Sphinx sees none in README files."""
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
