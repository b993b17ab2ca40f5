"""``dartsformer-report``: show a search, running or finished, as one self-contained HTML page."""

import shlex
from argparse import Namespace
from pathlib import Path

from ..report.page import render
from ..report.run import read_retraining, read_search
from .command import CommandParser, check_output, replacing, run_command


def get_parser() -> CommandParser:
    parser = CommandParser(prog="dartsformer-report", description=__doc__)
    parser.add_argument("folder", metavar="RUN-FOLDER", help="the search's --save-dir")
    parser.add_argument(
        "-o",
        "--output",
        default="report.html",
        metavar="FILE",
        help="the page (default: report.html)",
    )
    parser.add_argument(
        "--log",
        metavar="FILE",
        help="output of fairseq-train or fairseq-hydra-train, or their log file (default: "
        "hydra_train.log in the folder, if any; without a log, curves come from the checkpoints)",
    )
    parser.add_argument(
        "--retrained",
        nargs="+",
        default=[],
        metavar="FOLDER",
        help="save folders of networks trained afterwards; their BLEU comes from "
        "fairseq-generate --results-path FOLDER, the perplexity of language models from the output "
        "of fairseq-eval-lm in FOLDER/eval-*.txt",
    )
    return parser


def main(args: Namespace) -> None:
    """Read everything, then write the page; a wrong argument or input raises an :class:`InputError`
    before that."""
    output = Path(args.output)
    check_output(output, [args.log] if args.log else [])
    search = read_search(Path(args.folder), Path(args.log) if args.log else None)
    retrained = [read_retraining(Path(folder)) for folder in args.retrained]
    words = ["dartsformer-report", args.folder, "-o", args.output]
    words += ["--user-dir", args.user_dir] if args.user_dir else []
    words += ["--log", args.log] if args.log else []
    words += ["--retrained", *args.retrained] if args.retrained else []
    page = render(search, retrained, shlex.join(words))
    with replacing(output) as temporary:
        temporary.write_text(page, encoding="utf-8")
    print(f"wrote {output}")


def cli_main() -> None:
    run_command(get_parser(), main)


if __name__ == "__main__":
    cli_main()
