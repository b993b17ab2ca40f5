"""Prints the mixing weights of a search's checkpoints as a table, for plotting and for keeping.

usage: python examples/alpha_history.py CHECKPOINT ... > alpha.tsv
"""

import argparse

from fairseq_dartsformer.search_result import read_search_result


def main() -> None:
    """One line an operation, node and checkpoint, tab-separated, under a line of names."""
    parser = argparse.ArgumentParser(description="mixing weights of a search's checkpoints")
    parser.add_argument("checkpoints", nargs="+", help="in the order of their updates")
    print("updates", "stack", "layer", "split", "operation", "weight", sep="\t")
    for path in parser.parse_args().checkpoints:
        result = read_search_result(path)
        for node in result.nodes():
            for operation, weight in result.ranked(node):
                place = (node.stack, node.layer + 1, node.place + 1)
                print(result.updates, *place, operation, f"{weight:.5f}", sep="\t")


if __name__ == "__main__":
    main()
