"""Goes every path up to a depth, the short ones first; a situation met before ends a path."""

from __future__ import annotations

import gc
import itertools
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from .alphabet import possible
from .run import go

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from .model import Model
    from .run import Result

ROOTS: dict[str, tuple[str, ...]] = {"init": (), "ready": ("begin", "ping+")}
"""Where the counting of events begins."""

GARBAGE = 200  # runs after which it is taken out


@contextmanager
def uncollected() -> Iterator[Callable[[], None]]:
    """Collect garbage after every `GARBAGE` calls only: a run leaves many cycles, and is short.

    What is alive in between is kept for good, and need not be looked at again.
    """
    runs = itertools.count(1)

    def ran() -> None:
        if next(runs) % GARBAGE == 0:
            gc.collect()
            gc.freeze()

    gc.disable()
    try:
        yield ran
    finally:
        gc.enable()
        gc.unfreeze()


@dataclass
class Exploration:
    """What was found on the way from one root.

    Attributes:
        merge: whether a path ends where it meets a situation that was met before. As shorter paths
            come first, whatever can follow has been, or will be, tried from there.
        runs: paths that were gone.
        edges: steps of the machine that were seen.
        events: the events that were given.
        violation: the first path that broke something.
        paths: to each situation the shortest, and what the model knows there.
    """

    root: str
    intensity: int
    depth: int
    merge: bool = True
    seed: int = 0
    runs: int = 0
    edges: set[tuple[str, str, str]] = field(default_factory=set)
    events: set[str] = field(default_factory=set)
    violation: Result | None = None
    paths: list[tuple[tuple[str, ...], Model]] = field(default_factory=list)
    _known: dict[int, int] = field(default_factory=dict)
    _children: list[list[int | None]] = field(default_factory=list)

    @property
    def situations(self) -> int:
        """How many different ones were reached, before the last event."""
        return len(self._children)

    @property
    def fingerprints(self) -> set[int]:
        """The situations themselves."""
        return set(self._known)

    def explore(self, told: Callable[[int, Exploration], object] = lambda *_: None) -> None:
        """All paths of up to `depth` events."""
        with uncollected() as ran:
            self._explore(told, ran)

    def _explore(self, told: Callable[[int, Exploration], object], ran: Callable[[], None]) -> None:
        level = self._visit(ROOTS[self.root])[1]
        for length in range(1, self.depth + 1):
            following: list[tuple[int, tuple[str, ...], Sequence[str]]] = []
            for node, path, events in level:
                for event in events:
                    child, more = self._visit((*path, event), last=length == self.depth)
                    ran()
                    if self.violation is not None:
                        return
                    self._children[node].append(child)
                    following += more
            level = following
            told(length, self)

    def _visit(
        self, path: tuple[str, ...], *, last: bool = False
    ) -> tuple[int | None, list[tuple[int, tuple[str, ...], Sequence[str]]]]:
        """Go a path; the number of the situation it ends in, and where to go on if it is new."""
        result = go(path, self.intensity, seed=self.seed, remember=not last)
        self.runs += 1
        self.edges.update(result.steps)
        self.events.update(path[-1:])
        if result.violations:
            self.violation = result
            return None, []
        if last or path[-1:] == ("abort",):
            return None, []
        if self.merge and result.fingerprint in self._known:
            return self._known[result.fingerprint], []
        node = len(self._children)
        self._known.setdefault(result.fingerprint, node)
        self._children.append([])
        assert result.model is not None
        self.paths.append((path, result.model))
        return node, [(node, path, tuple(possible(result.model)))]

    def interleavings(self) -> int:
        """How many paths of up to `depth` events that stands for, merged ones counted in full."""
        counts = [0] * len(self._children)
        for _ in range(self.depth):
            counts = [
                sum(1 + (counts[c] if c is not None else 0) for c in children)
                for children in self._children
            ]
        return counts[0]
