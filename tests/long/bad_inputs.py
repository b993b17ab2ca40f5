"""Try bad inputs by the thousand: each must work, or be refused in one line that names it.

usage: python tests/long/bad_inputs.py [--examples N] [--processes N] [KIND ...]
"""

import argparse
import logging
import os
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

os.environ |= {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "PYTHONWARNINGS": "ignore"}
sys.path.insert(0, str(Path(__file__).parents[1] / "cpu"))

import torch
from helpers.attempting import in_processes
from helpers.bad_kinds import BAD
from helpers.running import prepare_data, start_server
from helpers.trying import Place, explore


def main() -> None:
    """A row for each kind."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("kinds", nargs="*", metavar="KIND", help=f"of {', '.join(BAD)} (all)")
    parser.add_argument("--examples", type=int, default=500, metavar="N", help="of each kind (500)")
    parser.add_argument(
        "--processes", type=int, default=0, metavar="N", help="and so many in their own process (0)"
    )
    args = parser.parse_args()
    for kind in args.kinds:
        if kind not in BAD:
            parser.error(f"{kind!r} is no kind: expected some of {', '.join(BAD)}")
    torch.set_num_threads(1)
    totals: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        start_server()
        place = Place(Path(folder, "place"), prepare_data(Path(folder)))
        logging.disable()
        print("| kind | tried | worked | refused in one line | anything else | time |")
        print("|---|---|---|---|---|---|", flush=True)
        for kind in args.kinds or BAD:
            begin = time.monotonic()
            tally = explore(BAD[kind], place, args.examples, report)
            if args.processes > 0:
                with in_processes():
                    tally += explore(BAD[kind], place, args.processes, report)
            row(kind, tally, time.monotonic() - begin)
            totals += tally
        if not args.kinds:
            row("all", totals)
    sys.exit(totals["failed"] > 0)


def report(error: Exception) -> None:
    """Show what went wrong with an input."""
    print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)


def row(kind: str, tally: Counter[str], seconds: float | None = None) -> None:
    took = "" if seconds is None else f"{seconds:.0f} s"
    counts = [sum(tally.values()), tally["worked"], tally["refused"], tally["failed"]]
    print("|", " | ".join([kind, *map(str, counts), took]), "|", flush=True)


if __name__ == "__main__":
    main()
