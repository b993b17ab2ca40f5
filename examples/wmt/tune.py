"""Translates with several length penalties in one process and records the BLEU of each.

usage: python examples/wmt/tune.py RESULTS.tsv PENALTY ... -- FAIRSEQ-GENERATE ARGUMENTS ...

BLEU is tokenised, against the references in the binarised data. Skips penalties that RESULTS
contains.
"""

import argparse
import sys
from contextlib import redirect_stdout
from pathlib import Path


def bleu(arguments: list[str], penalty: str) -> float:
    """Runs `fairseq-generate` with its output on stderr and returns BLEU."""
    from fairseq import options  # takes seconds, and may not be needed
    from fairseq_cli import generate

    arguments = [*arguments, "--lenpen", penalty, "--quiet"]
    with redirect_stdout(sys.stderr):
        args = options.parse_args_and_arch(options.get_generation_parser(), arguments)
        return generate.main(args).score()


def main() -> None:
    split = sys.argv.index("--") if "--" in sys.argv else len(sys.argv)
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("results", type=Path)
    parser.add_argument("penalties", nargs="+", metavar="PENALTY")
    args = parser.parse_args(sys.argv[1:split])

    lines = args.results.read_text().splitlines() if args.results.exists() else []
    done = {line.split("\t")[0] for line in lines}
    for penalty in dict.fromkeys(args.penalties):
        if penalty not in done:
            score = bleu(sys.argv[split + 1 :], penalty)
            print(f"length penalty {penalty}: BLEU {score:.2f}", flush=True)
            with args.results.open("a") as results:
                print(penalty, f"{score:.4f}", sep="\t", file=results)


if __name__ == "__main__":
    main()
