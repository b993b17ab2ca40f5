"""``dartsformer-parameters``: count the parameters of every architecture, beside the paper's.

Source, target and output share their embedding. Nothing is allocated.
"""

from argparse import Namespace

from fairseq.models import (
    ARCH_MODEL_NAME_REGISTRY,
    ARCH_MODEL_REGISTRY,
    FairseqLanguageModel,
)

from ..memory.planner import count_parameters, training_config
from ..models.architectures import SIZES
from ..search_space.families import FAMILIES
from ..search_space.genotype import Genotype
from .command import CommandParser, add_vocabulary, run_command

ARCHITECTURES = (
    *(model + suffix for model, sizes in SIZES.items() for suffix in sizes),
    *("transformer_small", "transformer_medium", "transformer"),
    "transformer_vaswani_wmt_en_de_big",
)
# Table 1 (of DARTSformer: max pooling, s = 2); Section 4.2 says "around" of all big models.
BIG = "about 214.7M"
PAPER = {
    "dartsformer": "65.2M",
    "dartsformer_big": BIG,
    "evolved_transformer": "64.1M",
    "evolved_transformer_big": BIG,
    "transformer": "61.1M",
    "transformer_vaswani_wmt_en_de_big": BIG,
}
LAYER = ("self_attention", "ffn")
# The Transformer as an architecture that DARTS on a Transformer can derive; and its operations in
# the reversible layers of a language model.
TRANSFORMER = Genotype(
    (LAYER,), (("self_attention", "cross_attention", "ffn"),), None, "darts_transformer"
)
TRANSFORMERS = (
    TRANSFORMER,
    Genotype(None, (LAYER,), None, "darts_transformer_lm"),
    Genotype(None, (LAYER,), "max", "dartsformer_lm"),
)


def get_parser() -> CommandParser:
    parser = CommandParser(prog="dartsformer-parameters", description=__doc__)
    add_vocabulary(parser)
    parser.add_argument(
        "--genotype",
        default="paper_fig4_approx",
        metavar="FILE",
        help="genotype of the derived models of its family: JSON file or built-in name (default: "
        "paper_fig4_approx; of the other families, self attention and an ffn a layer)",
    )
    return parser


def main(args: Namespace) -> None:
    """Print a row for each architecture; raise an :class:`InputError` if the genotype cannot be
    read, or does not fit an architecture of its family."""
    given = map(Genotype.load, ("paper_fig4_approx", args.genotype))
    genotypes = {genotype.family: genotype for genotype in (*TRANSFORMERS, *given)}
    print("| architecture | parameters | the paper's |\n|---|---|---|")
    for arch in ARCHITECTURES:
        model = ARCH_MODEL_NAME_REGISTRY[arch]
        text_alone = issubclass(ARCH_MODEL_REGISTRY[arch], FairseqLanguageModel)
        options = ["--share-decoder-input-output-embed" if text_alone else "--share-all-embeddings"]
        if model in FAMILIES:
            options += ["--genotype", genotypes[model].to_json()]
        count = count_parameters(training_config(arch, options), args.vocabulary)
        print(f"| {arch} | {count:,} | {PAPER.get(arch, '')} |", flush=True)


def cli_main() -> None:
    run_command(get_parser(), main)


if __name__ == "__main__":
    cli_main()
