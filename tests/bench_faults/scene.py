"""What the sections share: the programs that watch one server or set, and their samples."""

from __future__ import annotations

import json
import statistics
import sys
from collections import defaultdict
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from .connections import WORLDS
from .record import Program, Record, clock

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from ..bench.clock import Report

SOON = 60.0
"""Seconds for what is waited for and not measured; beyond them something is broken."""


@dataclass(frozen=True)
class Effort:
    """How often what is done.

    Attributes:
        kills: of a standalone server, with short outages.
        long_kills: with outages that the slowest loop has to notice.
        brisk_freezes: seen by connections with short bounds.
        freezes: seen by connections with the default bounds.
        elections: primaries killed.
        crowd: clients of one server.
    """

    kills: int = 18
    long_kills: int = 2
    brisk_freezes: int = 10
    freezes: int = 1
    elections: int = 20
    crowd: int = 1000


QUICK = Effort(kills=3, long_kills=0, brisk_freezes=2, freezes=0, elections=2, crowd=100)


@dataclass
class Scene:
    """Programs in all worlds, each with the same connections; and what they took, by figure."""

    record: Record
    connections: tuple[str, ...]
    samples: defaultdict[tuple[str, str], list[float]] = field(
        default_factory=lambda: defaultdict(list)
    )

    def everybody(self, *connections: str) -> Iterator[tuple[str, str]]:
        """Each world, and what each of these connections (or of all) is called there."""
        for world in WORLDS:
            for connection in connections or self.connections:
                yield world, f"{world}/{connection}"

    def wait_all(self, what: str, after: float, *connections: str) -> None:
        """Wait until everybody has been `what` since that moment."""
        for _, who in self.everybody(*connections):
            self.record.wait(who, what, after, SOON)

    def add(self, figure: str, whose: str, seconds: float) -> None:
        """Take a sample in."""
        self.samples[figure, whose].append(seconds)

    def report(
        self, to: Report, figure: str, whose: str, bound: float | None, *, of_median: bool = False
    ) -> None:
        """A row in milliseconds: the largest sample (or the median), and the other beside it."""
        found = [1e3 * seconds for seconds in self.samples[figure, whose]]
        if not found:
            return
        median, largest = statistics.median(found), max(found)
        beside = f"max {largest:.0f}" if of_median else f"median {median:.0f}"
        to.add(
            f"{figure}: {whose}",
            median if of_median else largest,
            "ms",
            None if bound is None else 1e3 * bound,
            f"{'median' if of_median else 'max'} of {len(found)}, {beside}",
        )


@contextmanager
def watching(url: str, tables: dict[str, dict[str, Any]], *, polls: bool) -> Iterator[Scene]:
    """Connections with these tables in every world, all ready; beside them loops that poll."""
    scene = Scene(Record(), tuple(tables))
    began = clock()
    with ExitStack() as programs:
        for world in WORLDS:
            module = f"{__package__}.connections"
            programs.enter_context(
                Program(scene.record, world, module, world, url, json.dumps(tables))
            )
        if polls:
            programs.enter_context(Program(scene.record, "polls", f"{__package__}.polls", url))
        scene.wait_all("ready", began)
        yield scene


def counted(times: int, what: str) -> Iterable[int]:
    """`range(times)`, and each turn is shown."""
    for turn in range(times):
        print(f"  {what} {turn + 1} of {times}", file=sys.stderr, flush=True)
        yield turn
