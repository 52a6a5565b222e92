"""What a path is gone in: settings, a registry, and nothing that is left to chance."""

from __future__ import annotations

import logging
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any

import trio
import trio._core._run as trio_run  # its randomness is seeded here

from moorings.providers import plugins
from moorings.providers.registry import DocumentDatabaseRegistry
from moorings.runtime import timers

from . import model as rules
from .provider import DecidedProvider

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .provider import Backend

installed = cache(plugins.entry_points)


class LowestRandom:
    """Jitter without chance: always the shortest delay."""

    @staticmethod
    def uniform(low: float, _: float) -> float:
        return low


def registry(backend: Backend) -> DocumentDatabaseRegistry:
    """One backend, "decided"."""
    found = DocumentDatabaseRegistry()
    found.register(
        "decided",
        type("Provider", (DecidedProvider,), {"backend": backend, "__module__": __name__}),
    )
    return found


def settings(intensity: int) -> dict[str, Any]:
    """One connection, "db", by the model's numbers."""
    connection = {
        "backend": "decided",
        "required": False,
        "retry": {"initial": rules.NAP, "attempts": rules.ATTEMPTS},
        "health": {
            "interval": rules.INTERVAL,
            "jitter": 0.0,
            "timeout": rules.TIMEOUT,
            "failures": rules.FAILURES,
        },
        "supervision": {
            "backoff_initial": rules.BACKOFF,
            "intensity": intensity,
            "period": rules.PERIOD,
        },
    }
    runtime = {"hook_timeout": rules.HOOK_TIMEOUT}
    return {"default": {"database": {"documents": {"db": connection}}, "runtime": runtime}}


def tasks() -> list[trio.lowlevel.Task]:
    """All that live in this run."""
    found: list[trio.lowlevel.Task] = []
    left = [trio.lowlevel.current_root_task()]
    while left:
        task = left.pop()
        if task is not None:
            found.append(task)
            left += [child for nursery in task.child_nurseries for child in nursery.child_tasks]
    return found


@contextmanager
def deterministic(seed: int) -> Iterator[None]:
    """Seed trio's order of tasks, keep the log silent, and make the timers' buckets exact.

    What is installed is looked up once: it was half of a path's time.
    """
    before = trio_run._ALLOW_DETERMINISTIC_SCHEDULING, trio_run._r.getstate()
    entry_points, plugins.entry_points = plugins.entry_points, installed
    granularity, timers.GRANULARITY = timers.GRANULARITY, 0.0625  # a sum of powers of two
    logger = logging.getLogger("moorings")
    disabled, logger.disabled = logger.disabled, True
    trio_run._ALLOW_DETERMINISTIC_SCHEDULING = True
    trio_run._r.seed(seed)
    try:
        yield
    finally:
        logger.disabled = disabled
        plugins.entry_points = entry_points
        timers.GRANULARITY = granularity
        trio_run._ALLOW_DETERMINISTIC_SCHEDULING = before[0]
        trio_run._r.setstate(before[1])
