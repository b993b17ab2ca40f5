"""What a search leaves behind, without a search."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from fairseq_dartsformer.search.snapshot import Snapshot, snapshot_of

# The exception: the table of a search that was run.
RECORDED = Path(__file__).parents[2] / "examples/results/en-de/alpha.tsv"


def search_state(
    seed: int = 0,
    layers: int = 2,
    splits: int = 2,
    decoder_splits: int | None = None,
    pooling: str | None = "max",
    **model: Any,
) -> dict[str, Any]:
    """What fairseq saves of a search, without the weights; alpha is drawn."""
    generator = torch.Generator().manual_seed(seed)
    cfg = {
        "_name": "dartsformer_search",
        "pooling": pooling,
        "encoder_operations": None,
        "decoder_operations": None,
        "encoder_splits": splits,
        "decoder_splits": decoder_splits,
        "search_layers": layers,
    } | model
    encoder, decoder = (
        len(cfg[f"{stack}_operations"].split(",")) if cfg[f"{stack}_operations"] else candidates
        for stack, candidates in (("encoder", 13), ("decoder", 14))
    )
    searched = decoder_splits - 1 if decoder_splits else splits
    return {
        "args": None,
        "cfg": {"model": cfg},
        "model": {
            "encoder.alpha": torch.randn(layers, splits, encoder, generator=generator),
            "decoder.alpha": torch.randn(layers, searched, decoder, generator=generator),
        },
        "optimizer_history": [
            {
                "num_updates": 10_000 * (seed + 1),
                "optimizer_name": "BilevelAdam",
                "lr_scheduler_state": {},
            }
        ],
        "extra_state": {"train_iterator": {"epoch": 1}},
    }


def saved(path: Path, **options: Any) -> str:
    """Write a :func:`search_state`, and say where."""
    torch.save(search_state(**options), path)
    return str(path)


def results(count: int = 5, **options: Any) -> list[Snapshot]:
    """What is read of so many checkpoints, each of another :func:`search_state`."""
    return [snapshot_of(search_state(seed, **options), f"{seed}.pt") for seed in range(count)]
