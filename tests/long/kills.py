"""Kill searches at random moments, resume them, and compare them with uninterrupted searches.

usage: python tests/long/kills.py [--workers N ...] [--kills N] [--in-writes N] [--seed N]
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path
from random import Random

sys.path.insert(0, str(Path(__file__).parents[1]))

from helpers.fairseq_commands import prepare_data, start_server
from helpers.kill_and_resume import kill_and_resume


def main() -> None:
    """Print a row for each search."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2], help="searches (1 2)")
    parser.add_argument("--kills", type=int, default=20, help="of each search (20)")
    parser.add_argument("--in-writes", type=int, default=10, help="at least, of these (10)")
    parser.add_argument("--seed", type=int, default=1, help="of the moments (1)")
    args = parser.parse_args()
    print("workers  kills  in a write  resumes  compared  differing places  wall time")
    differing = []
    with tempfile.TemporaryDirectory() as folder:
        start_server()
        data = prepare_data(Path(folder))
        for workers in args.workers:
            begin, random = time.monotonic(), Random(args.seed)
            folder_of_search = Path(folder, f"{workers}")
            tally = kill_and_resume(
                data, folder_of_search, random, workers, args.kills, args.in_writes
            )
            print(
                f"{workers:7} {tally.kills:6} {tally.in_writes:11} {tally.resumes:8} "
                f"{tally.compared / 1e6:6.1f} MB {len(tally.differing):17} "
                f"{time.monotonic() - begin:8.0f} s",
                *tally.differing,
                sep="\n",
                flush=True,
            )
            differing += tally.differing
    sys.exit(bool(differing))


if __name__ == "__main__":
    main()
