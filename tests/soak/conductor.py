"""A soak from beginning to end: warm up, count, let things fail, heal, count again, look."""

from __future__ import annotations

import heapq
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from mongod import servers
from proxy import proxies

from .crew import Crew, SoakFailed
from .place import Place
from .plan import plan

if TYPE_CHECKING:
    from .holdings import Holdings
    from .plan import Strike

SIZES: Final = {"trio": 30, "asyncio": 10, "pymongo": 10}
"""Fifty connections."""
WARM_UP: Final = 10.0
"""Seconds of writing between two step-downs, before anything is counted."""
LOOKS: Final = 5
"""Counts, a second apart, of which the largest tells what is held: a driver's task that wakes to
wait anew does so in a task of its own (`asyncio.wait_for`), which is missing for a moment."""
EVERY: Final = 15.0
"""Seconds between two lines of progress."""
HEALED_WITHIN: Final = 60.0
"""Seconds for all connections to be ready once everything is healed."""
SHRUNK_WITHIN: Final = 90.0
"""Seconds for what an outage takes to be given back: idle threads live 30."""
MEMORY_SHARE: Final = 0.10
MEMORY_KB: Final = 16 * 1024
"""How far memory may grow: a tenth, and 16 MB that an allocator may keep in pieces."""


@dataclass
class Soak:
    """One soak under way."""

    seed: int
    seconds: float
    place: Place
    crew: Crew
    began: float = field(default_factory=time.monotonic)
    told: float = 0.0
    struck: Counter[str] = field(default_factory=Counter)
    impossible: Counter[str] = field(default_factory=Counter)
    worst_ready: int = 0

    def go(self) -> None:
        """All of it.

        Raises:
            SoakFailed: a promise was broken.
        """
        self.crew.wait_up()
        before = self._warmed_up()
        self._suffer()
        self.place.heal_all()
        seconds = self._all_sound()
        self._say(
            f"healed: all {self.crew.connections} ready on the handles they held, {seconds:.1f} s"
        )
        self.crew.ask("pause")
        self._check_documents()
        self._check_holdings(before)

    def _warmed_up(self) -> dict[str, Holdings]:
        """What is held once every member has been the primary and all have written."""
        self.crew.ask("write")
        for _ in range(2):
            time.sleep(WARM_UP / 2)
            self.place.step_down()
            self.place.members.wait_settled()
        time.sleep(WARM_UP / 2)
        self._all_sound()
        self.crew.ask("pause")
        time.sleep(WARM_UP / 2)  # idle sockets go after three seconds
        before = self.crew.count()
        for _ in range(LOOKS - 1):
            time.sleep(1.0)
            before = {stack: one.larger(before[stack]) for stack, one in self.crew.count().items()}
        for stack, holdings in before.items():
            self._say(f"warm: {stack}: {_shown(holdings)}")
        self.crew.ask("write")
        return before

    def _suffer(self) -> None:
        """Let the plan happen."""
        strikes = plan(self.seed, self.seconds)
        began = time.monotonic()
        todo = [(one.at, number, one, False) for number, one in enumerate(strikes)]
        heapq.heapify(todo)
        while todo:
            at, number, one, heals = heapq.heappop(todo)
            self._wait_until(began + at)
            if heals:
                self.place.heal(one.member)
                continue
            self._strike(one)
            if one.until > one.at:
                heapq.heappush(todo, (one.until, number, one, True))
        self._wait_until(began + self.seconds)

    def _strike(self, one: Strike) -> None:
        possible = self.place.strike(one.kind, one.member)
        (self.struck if possible else self.impossible)[one.kind] += 1

    def _wait_until(self, when: float) -> None:
        """Wait, and say now and then how it goes."""
        while (left := when - time.monotonic()) > 0:
            time.sleep(min(left, 1.0))
            if time.monotonic() - self.told >= EVERY:
                self._progress()

    def _progress(self) -> None:
        self.told = time.monotonic()
        look = self.crew.look()
        self._say(
            f"{self.struck.total()} faults, {look['ready']} of {self.crew.connections} ready, "
            f"{look['acknowledged']} acknowledged, {look['failed']} failed, "
            f"{look['transitions']} transitions"
        )

    def _all_sound(self) -> float:
        """Wait until every connection serves by the handle that its worker holds: how long."""
        began = time.monotonic()
        while (look := self.crew.look())["sound"] < self.crew.connections:
            if time.monotonic() - began > HEALED_WITHIN:
                raise SoakFailed(
                    f"{HEALED_WITHIN:g} s after everything was healed, {look['ready']} of "
                    f"{self.crew.connections} are ready, {look['sound']} on the handle they held"
                )
            time.sleep(0.1)
        return time.monotonic() - began

    def _check_documents(self) -> None:
        look, present = self.crew.look(), self.place.documents()
        lost = {
            worker: sorted(documents - present)[:5]
            for worker, documents in self.crew.acknowledged()
            if documents - present
        }
        errors = ", ".join(f"{name} {count}" for name, count in look["errors"].most_common())
        self._say(
            f"{look['acknowledged']} writes acknowledged, {len(present)} documents there, "
            f"{look['failed']} failed ({errors or 'none'})"
        )
        if lost:
            raise SoakFailed(f"acknowledged, and not there: {lost}")

    def _check_holdings(self, before: dict[str, Holdings]) -> None:
        deadline = time.monotonic() + SHRUNK_WITHIN
        while True:
            after = self.crew.count()
            grown = [text for stack in after for text in _grown(stack, before[stack], after[stack])]
            if not grown or time.monotonic() > deadline:
                break
            time.sleep(1.0)
        for stack, holdings in after.items():
            self._say(f"end: {stack}: {_shown(holdings)}")
        if grown:
            raise SoakFailed(f"grown, and still so after {SHRUNK_WITHIN:g} s: {'; '.join(grown)}")

    def _say(self, text: str) -> None:
        print(f"[{time.monotonic() - self.began:6.1f} s] {text}", flush=True)


def _shown(one: Holdings) -> str:
    return (
        f"{one.threads} threads, {one.sockets} sockets, {one.files} files, {one.tasks} tasks, "
        f"{one.memory_kb / 1024:.1f} MB"
    )


def _grown(stack: str, before: Holdings, after: Holdings) -> list[str]:
    """What there is more of, in words."""
    found = [
        f"{stack}: {name} {old} → {new}"
        for name, old, new in (
            ("threads", before.threads, after.threads),
            ("sockets", before.sockets, after.sockets),
            ("files", before.files, after.files),
            ("tasks", before.tasks, after.tasks),
        )
        if new > old
    ]
    if after.memory_kb > before.memory_kb * (1 + MEMORY_SHARE) + MEMORY_KB:
        found.append(f"{stack}: memory {before.memory_kb} → {after.memory_kb} kB")
    return found


def soak(seed: int, minutes: float) -> None:
    """Soak; returns if every promise was kept.

    Raises:
        SoakFailed: one was not.
    """
    with servers() as running, proxies() as before:
        place = Place(running, before)
        with Crew(SIZES, place.url) as crew:
            _soak(Soak(seed, minutes * 60, place, crew))


def _soak(one: Soak) -> None:
    for hand in one.crew.hands:
        print(f"{hand.stack}: process {hand.process.pid}, {hand.connections} connections")
    failure: SoakFailed | None = None
    try:
        one.go()
    except SoakFailed as error:
        failure = error
    statuses = one.crew.end()
    print(f"faults: {dict(one.struck.most_common())}, without effect: {dict(one.impossible)}")
    if failure is not None:
        raise failure
    if any(statuses.values()) or None in statuses.values():
        raise SoakFailed(f"ended with {statuses}")
