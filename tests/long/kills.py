"""Kill searches at random moments, resume them, and compare their ends with searches never stopped.

usage: python tests/long/kills.py [--workers N ...] [--kills N] [--in-writes N] [--seed N]
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path
from random import Random

sys.path.insert(0, str(Path(__file__).parents[1] / "cpu"))

from helpers.killing import kill_and_resume
from helpers.running import prepare_data, start_server


def main() -> None:
    """A row for each search."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2], help="searches (1 2)")
    parser.add_argument("--kills", type=int, default=20, help="of each search (20)")
    parser.add_argument("--in-writes", type=int, default=10, help="at least, of these (10)")
    parser.add_argument("--seed", type=int, default=1, help="of the moments (1)")
    args = parser.parse_args()
    print("workers  kills  in a write  resumes  differing bits  others ended within  wall time")
    differing = 0
    with tempfile.TemporaryDirectory() as folder:
        start_server()
        data = prepare_data(Path(folder))
        for workers in args.workers:
            begin = time.monotonic()
            tally = kill_and_resume(
                data,
                Path(folder, f"{workers}"),
                Random(args.seed),
                workers,
                args.kills,
                args.in_writes,
            )
            waited = f"{tally.waited:.1f} s" if workers > 1 else ""
            bits = sum(tally.differing.values())
            print(
                f"{workers:7} {tally.kills:6} {tally.in_writes:11} {tally.resumes:8} "
                f"{bits:6} of {tally.compared / 1e6:.0f}M {waited:>20} "
                f"{time.monotonic() - begin:8.0f} s",
                flush=True,
            )
            for place, bits in tally.differing.items():
                print(f"{bits} bits differ in {place}")
            differing += len(tally.differing)
    sys.exit(differing > 0)


if __name__ == "__main__":
    main()
