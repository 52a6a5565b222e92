"""What a cell of the table is made of: a fault, where its connection is, and what has to follow."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

INTERVAL: Final = 0.5
TIMEOUT: Final = 0.5
FAILURES: Final = 2
RETRY_MAX: Final = 0.2
ATTEMPTS: Final = 2
SET_ATTEMPTS: Final = 30
BACKOFF_MAX: Final = 1.0
HOOK_TIMEOUT: Final = 1.0
SHUTDOWN: Final = 1.0
"""The settings of every cell's connection, in seconds; two misses, two attempts an
episode, or as many as an election may take where there is a set."""


class At(StrEnum):
    """What the connection is doing when the fault strikes."""

    STARTING = "starting"
    CONNECTING = "connecting"
    READY = "ready"
    FAILED = "failed"
    REPLACING = "replacing"


class World(StrEnum):
    """A driver in a host's world."""

    TRIO = "Motor, trio"
    ASYNCIO = "Motor, asyncio"
    PYMONGO = "PyMongo, asyncio"


class Place(StrEnum):
    """What a fault happens to."""

    NETWORK = "the network before a server"
    SERVER = "a server"
    SET = "a replica set of three"


@dataclass(frozen=True)
class Fault:
    """Something that goes wrong.

    Attributes:
        name: as in the table.
        place: what it happens to.
        what: one line for people.
        passing: it is over as soon as it has struck; the connection comes back by itself.
    """

    name: str
    place: Place
    what: str
    passing: bool = False

    def __str__(self) -> str:
        return self.name


class Handle(StrEnum):
    """Which database object serves when all is over."""

    SAME = "the same"
    """The one that was there before, or that the first hook was given."""
    NEW = "a new one"
    """That of the client which `restart()` has made."""
    EITHER = "either"
    """It depends on which comes first, a new primary or the hook's bound, whether `restart()` has
    made one."""


@dataclass(frozen=True)
class Step:
    """A state that is entered.

    Attributes:
        state: which.
        within: seconds since the fault struck, or since it was over.
        reasons: what it may give for it; none: it is not looked at.
    """

    state: str
    within: float
    reasons: frozenset[str] = frozenset()


def enters(state: str, within: float, *reasons: str) -> Step:
    """A step, in few words."""
    return Step(state, within, frozenset(reasons))


@dataclass(frozen=True)
class Cell:
    """One fault in one state, and what has to be true of it.

    Attributes:
        during: the states entered while the fault lasts, and the fault lasts until they were.
            Rounds of `connecting` and `failed` count once. None at all: it lasts three pings, or
            three attempts that fail.
        after: the states entered once it is over.
        moved: how far each counter moves, from the strike on. All others that count something
            bad stay where they are.
        handle: which database object serves in the end.
        worlds: where it is tried.
    """

    fault: Fault
    at: At
    during: tuple[Step, ...]
    after: tuple[Step, ...] = ()
    moved: Mapping[str, Count] = field(default_factory=dict)
    handle: Handle = Handle.SAME
    worlds: tuple[World, ...] = (World.TRIO,)

    def __str__(self) -> str:
        return f"{self.fault}-{self.at}"


@dataclass(frozen=True)
class Count:
    """How far a counter moves."""

    low: int
    high: int | None

    def holds(self, found: float) -> bool:
        return self.low <= found and (self.high is None or found <= self.high)

    def __str__(self) -> str:
        if self.high is None:
            return f"≥ {self.low}"
        return f"{self.low}" if self.high == self.low else f"{self.low} to {self.high}"


def exactly(count: int) -> Count:
    """So much, and no more."""
    return Count(count, count)


def at_least(count: int) -> Count:
    """So much or more."""
    return Count(count, None)


def between(low: int, high: int) -> Count:
    """One of these, both included."""
    return Count(low, high)
