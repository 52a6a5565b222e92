"""What a cell leaves behind to be judged: transitions, counters, and everything that was shown."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, generate_latest

if TYPE_CHECKING:
    from collections.abc import Iterable

    from moorings import State, Transition

COUNTERS = {
    "lost": ("transitions_total", {"from": "ready", "to": "connecting"}),
    "given up": ("transitions_total", {"from": "connecting", "to": "failed"}),
    "retried": ("transitions_total", {"from": "failed", "to": "connecting"}),
    "established": ("transitions_total", {"from": "connecting", "to": "ready"}),
    "crashed": ("transitions_total", {"from": "ready", "to": "failed"}),
    "attempts": ("connect_attempts_total", {"result": "success"}),
    "failed attempts": ("connect_attempts_total", {"result": "failure"}),
    "closed late": ("close_timeouts_total", {}),
}
"""What the table calls a connection's counters, and which they are."""

PINGS = "failed pings"
"""Those of all reasons."""


@dataclass
class Trace:
    """An observer that keeps every transition, and when it came."""

    seen: list[tuple[float, Transition]] = field(default_factory=list)

    def __call__(self, transition: Transition) -> None:
        self.seen.append((time.monotonic(), transition))

    def since(self, position: int) -> list[Entered]:
        """The states entered from `position` on."""
        return [
            Entered(str(one.target), at, frozenset(filter(None, [one.status.reason])))
            for at, one in self.seen[position:]
        ]


@dataclass(frozen=True)
class Entered:
    """A state that was entered: when, and for which reasons."""

    state: str
    at: float
    reasons: frozenset[str]

    def __str__(self) -> str:
        return f"{self.state} ({', '.join(sorted(self.reasons)) or '-'})"


def collapsed(entered: Iterable[Entered]) -> list[Entered]:
    """Rounds of `connecting` and `failed` as one, with the reasons of all."""
    kept: list[Entered] = []
    for one in entered:
        kept.append(one)
        if [k.state for k in kept[-3:]] == ["failed", "connecting", "failed"]:
            first = kept[-3]
            kept[-3:] = [Entered(first.state, first.at, first.reasons | one.reasons)]
    return kept


def counters(registry: CollectorRegistry, name: str) -> dict[str, float]:
    """All of `COUNTERS` and `PINGS`, as a scrape has them."""
    found = {
        (sample.name, frozenset(sample.labels.items()) - {("runtime", "moorings")}): sample.value
        for family in registry.collect()
        for sample in family.samples
        if sample.labels.get("connection") == name
    }
    prefix = "moorings_connection_"
    read = {
        what: found[prefix + suffix, frozenset({**labels, "connection": name}.items())]
        for what, (suffix, labels) in COUNTERS.items()
    }
    read[PINGS] = sum(
        value for (sample, _), value in found.items() if sample == f"{prefix}ping_failures_total"
    )
    return read


def exposition(registry: CollectorRegistry) -> str:
    """The page that Prometheus scrapes."""
    return generate_latest(registry).decode()


@dataclass(frozen=True)
class Outcome:
    """How a cell went.

    Attributes:
        struck: when the fault came, on the monotonic clock.
        healed: when it was over.
        entered: the states from the strike on; `collapsed`.
        transitions: how many transitions there were.
        moved: how far each counter moved.
        same: the database object that serves in the end is the one from before.
        generations: how many clients became ready from the strike on.
        restarted: None: nobody asked; else whether `restart()` returned.
        state: the last one.
        shown: everything that a program could show of it.
    """

    struck: float
    healed: float
    entered: list[Entered]
    transitions: int
    moved: dict[str, float]
    same: bool
    generations: int
    restarted: bool | None
    state: State
    shown: str
