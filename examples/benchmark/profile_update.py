"""Profiles a search update with torch's profiler: the operations that take most time.

usage: python examples/benchmark/profile_update.py [--hidden-dim D] [--level weights|alpha] ...
"""

from __future__ import annotations

import argparse

import torch
from measuring import machine, print_table
from search_update import KINDS, Search, add_sizes
from torch.profiler import profile

from fairseq_dartsformer.search_space.levels import LEVELS


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--hidden-dim", type=int, default=120)
    parser.add_argument("--kind", choices=KINDS, default="reconstruct")
    parser.add_argument("--level", choices=LEVELS, default=LEVELS[0])
    add_sizes(parser)
    parser.add_argument("--rows", type=int, default=20)
    args = parser.parse_args()
    search = Search(args.kind, args, args.hidden_dim)
    search.update(args.level)
    with profile() as recorded:
        search.update(args.level)
    measure = "self_device_time_total" if torch.cuda.is_available() else "self_cpu_time_total"
    found = [(e.key, getattr(e, measure), e.count) for e in recorded.key_averages()]
    found.sort(key=lambda row: -row[1])
    total = sum(time for _, time, _ in found)
    print(machine())
    print_table(
        ["operation", "ms", "share (%)", "calls"],
        ([name, time / 1e3, 100 * time / total, calls] for name, time, calls in found[: args.rows]),
    )


if __name__ == "__main__":
    main()
