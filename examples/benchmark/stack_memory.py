"""Plans the memory of the paper's search: reconstructed, four times deeper, and stored.

usage: python examples/benchmark/stack_memory.py [--tokens N] [--vocabulary V]

e 256, d 960, s 2, all candidates. The plan uses fake tensors, so it does not depend on the machine.
"""

import argparse

from measuring import print_table

from fairseq_dartsformer.memory.planner import plan_memory, training_config

LENGTH = 50
NETWORKS = {
    "reconstruct, 6 + 6 layers": "--backprop reconstruct --encoder-layers 6 --decoder-layers 6",
    "reconstruct, 24 + 24 layers": "--backprop reconstruct --encoder-layers 24 --decoder-layers 24",
    "store, 6 + 6 layers": "--backprop store --encoder-layers 6 --decoder-layers 6",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tokens", type=int, default=5000)
    parser.add_argument("--vocabulary", type=int, default=32768)
    args = parser.parse_args()
    plans = {}
    for name, options in NETWORKS.items():
        options = f"--share-all-embeddings {options}".split()
        cfg = training_config("dartsformer_search", options)
        plans[name] = plan_memory(cfg, args.vocabulary, args.tokens // LENGTH, LENGTH)
    base = plans["reconstruct, 6 + 6 layers"].activations
    print_table(
        ["", "parameters (M)", "stack activations (MB)", "ratio", "update (GB)"],
        (
            [
                name,
                plan.count / 1e6,
                plan.activations / 1e6,
                plan.activations / base,
                plan.total / 1e9,
            ]
            for name, plan in plans.items()
        ),
    )


if __name__ == "__main__":
    main()
