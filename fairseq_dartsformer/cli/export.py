"""``dartsformer-export``: write a folder that translates, or continues text, without torch and
fairseq."""

from argparse import Namespace
from importlib.util import find_spec
from pathlib import Path

from ..errors import InputError
from .command import CommandParser, run_command

EXTRA = ("onnx", "onnxruntime", "onnxscript", "safetensors")


def get_parser() -> CommandParser:
    parser = CommandParser(prog="dartsformer-export", description=__doc__)
    parser.add_argument(
        "checkpoint",
        metavar="CHECKPOINT",
        help="of dartsformer, darts_transformer, evolved_transformer or transformer; or of a "
        "language model: dartsformer_lm, darts_transformer_lm or transformer_lm",
    )
    parser.add_argument("-o", "--output", required=True, metavar="FOLDER", help="a new folder")
    parser.add_argument(
        "--data",
        metavar="FOLDER",
        help="where the dictionaries are; with the binarised text, if the training did not name "
        "the languages (default: the training's data)",
    )
    parser.add_argument(
        "--codes",
        metavar="FILE",
        help="BPE codes of subword-nmt or a SentencePiece model, to apply to the input and undo in "
        "the output",
    )
    parser.add_argument(
        "--moses",
        action="store_true",
        help="normalise and tokenise the input by Moses' rules, and detokenise the output; not "
        "with a SentencePiece model",
    )
    for name, usual, what in (
        ("normalise", "yes", "punctuation is normalised"),
        ("lower-case", "no", "the input is lower-cased"),
    ):
        parser.add_argument(
            f"--{name}",
            choices=["yes", "no"],
            default=usual,
            help=f"with --moses, whether {what}; as for prepare.sh (default: {usual})",
        )
    parser.add_argument(
        "--lang", metavar="X", help="language of a language model's text, for --moses"
    )
    parser.add_argument(
        "--int8", action="store_true", help="quantise the weights of matrix products"
    )
    return parser


def main(args: Namespace) -> None:
    """Export; a wrong argument or checkpoint raises an :class:`InputError` before anything is
    written."""
    missing = [name for name in EXTRA if find_spec(name) is None]
    if missing:
        raise InputError(
            f"{', '.join(missing)}: not installed: dartsformer-export needs the extra `export` "
            "(pip install 'fairseq-dartsformer[export]')"
        )
    from ..export.folder import ExportConfig, export

    cfg = ExportConfig(
        args.checkpoint,
        args.data,
        args.codes,
        moses=args.moses,
        normalise=args.normalise == "yes",
        lower_case=args.lower_case == "yes",
        lang=args.lang,
        int8=args.int8,
    )
    export(cfg, Path(args.output))
    print(f"wrote {args.output}")


def cli_main() -> None:
    run_command(get_parser(), main)


if __name__ == "__main__":
    cli_main()
