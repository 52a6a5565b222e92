"""Many seeds on several cores: what they were made of, and the first that breaks a rule."""

from __future__ import annotations

import gc
import os
import signal
import sys
import threading
import time
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from multiprocessing import get_context, parent_process
from typing import TYPE_CHECKING

from .drawing import scenario
from .report import Distribution
from .run import Result, simulate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from multiprocessing.process import BaseProcess

CHUNK = 20  # seeds: less than a second, so that the first violation is known soon
EVERY = 30.0  # seconds between two lines, where none can be rewritten


@dataclass
class Soaked:
    """What came of some seeds, up to the first that broke a rule."""

    distribution: Distribution = field(default_factory=Distribution)
    failed: Result | None = None


def soak(
    first: int, seeds: int, *, jobs: int, watch: Callable[[Result], object] | None = None
) -> Iterator[Soaked]:
    """Simulate `seeds` scenarios from `first` on, and give what came of them, part by part.

    Parts come in order of the seeds, so that the first violation is the same whatever `jobs` is,
    the number of processes. It is in the last part. With one job, there is no other process.
    `watch` is called with each result; only with one job.
    """
    parts = [
        range(start, min(start + CHUNK, first + seeds))
        for start in range(first, first + seeds, CHUNK)
    ]
    with _mapping(jobs) as mapped:
        for part in mapped(partial(_simulate, watch=watch), parts):
            yield part
            if part.failed is not None:
                return


@contextmanager
def _mapping(jobs: int) -> Iterator[Callable[..., Iterator[Soaked]]]:
    if jobs == 1:
        yield map
        return
    # Not forked: whoever starts us may have threads.
    spawning = get_context("spawn")
    executor = ProcessPoolExecutor(jobs, spawning, initializer=_end_with_parent)
    try:
        yield executor.map
    finally:
        executor.shutdown(cancel_futures=True)


def _end_with_parent() -> None:
    """Leave nobody behind, whatever ends the one who started us; on Ctrl-C without a word."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    threading.Thread(target=_follow, args=(parent_process(),), daemon=True).start()


def _follow(parent: BaseProcess | None) -> None:
    if parent is not None:  # (It is in every process but the first.)
        parent.join()
    os._exit(1)


def _simulate(seeds: range, watch: Callable[[Result], object] | None) -> Soaked:
    soaked = Soaked()
    # Each run leaves cycles of tasks and tracebacks: collected here, not at every 700 objects.
    gc.disable()
    try:
        for seed in seeds:
            result = simulate(scenario(seed))
            soaked.distribution.add(result)
            if watch is not None:
                watch(result)
            if result.violations:
                soaked.failed = result
                break
    finally:
        gc.enable()
    gc.collect()
    return soaked


class Progress:
    """How many trees are done, and how fast: a line that is rewritten, or one now and then."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._began = self._told = time.monotonic()
        self._rewrites = sys.stderr.isatty()

    @property
    def seconds(self) -> float:
        """Since it began."""
        return time.monotonic() - self._began

    def tell(self, done: int) -> None:
        """Say how far it has come, if it is time to."""
        if self._rewrites:
            print(f"\r\x1b[K{self._line(done)}", end="", file=sys.stderr, flush=True)
        elif time.monotonic() - self._told >= EVERY:
            self._told = time.monotonic()
            print(self._line(done), file=sys.stderr, flush=True)

    def clear(self) -> None:
        """Leave nothing on a line that would be written over."""
        if self._rewrites:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)

    def _line(self, done: int) -> str:
        return f"{done} of {self._total} trees, {done / self.seconds:.0f} a second"
