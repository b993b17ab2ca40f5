"""Scoring by several processes, one for each device."""

import logging
import os
import threading
from argparse import Namespace
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from functools import partial
from multiprocessing import get_context, parent_process
from multiprocessing.queues import SimpleQueue

import torch
from fairseq import utils

from ..errors import InputError
from .population import Architecture
from .scoring import ScoreConfig, Scorer

# Gives the scores of architectures in order, each as soon as it is known.
Scores = Callable[[Iterable[Architecture]], Iterable[float]]

_scorer: Scorer  # of a worker's process


def _start(cfg: ScoreConfig, devices: SimpleQueue, plugins: Iterable[str]) -> None:
    """Start a worker on one of the devices, with its parent's plugins; it ends with the parent."""
    global _scorer
    for plugin in plugins:
        utils.import_user_module(Namespace(user_dir=plugin))
    threading.Thread(target=_end_with_parent, daemon=True).start()
    logging.getLogger("fairseq").setLevel(logging.WARNING)
    torch.set_num_threads(1)
    _scorer = Scorer(cfg, devices.get())


def _end_with_parent() -> None:
    parent_process().join()
    os._exit(1)


def _score(architecture: Architecture) -> float:
    return _scorer.score(architecture)


@contextmanager
def scoring(scorer: Scorer, devices: Sequence[str]) -> Iterator[Scores]:
    """Give a function that scores architectures.

    Args:
        scorer: used itself on a single device; otherwise each device has a process with a copy.
        devices: where to compute.

    Raises:
        InputError: there is not enough memory.
    """
    try:
        if len(devices) == 1:
            yield partial(map, scorer.score)
            return
        context = get_context("spawn")
        queue = context.SimpleQueue()
        for device in devices:
            queue.put(device)
        plugins = getattr(utils.import_user_module, "memo", ())  # those imported here
        arguments = (scorer.cfg, queue, plugins)
        with ProcessPoolExecutor(len(devices), context, _start, arguments) as pool:
            yield partial(pool.map, _score)
    except (BrokenProcessPool, torch.OutOfMemoryError) as error:
        raise InputError(
            "a worker ended, probably out of memory: lower --workers or --max-tokens"
        ) from error
