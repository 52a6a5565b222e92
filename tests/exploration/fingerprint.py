"""A situation as a value: from two that are equal, every continuation goes alike.

Two paths may be merged only when that is certain, so nothing is picked by hand: all that can be
reached from the tasks is taken in. That is where each coroutine stands, its variables, the scopes
around it, and every attribute of the objects they lead to, with times relative to now. What is left
out is named below, with the reason why nothing that happens depends on it. An object of an unknown
kind is an error: it has to be thought about. Taking in too much only costs time.

One thing is not compared: the state of the seeded dice by which trio orders tasks that are runnable
at the same instant. Merged paths differ in no more than such an order (`--seed` tries others).
"""

from __future__ import annotations

import contextvars
import enum
import functools
import math
import os
import random
import threading
import types
from collections import deque
from typing import TYPE_CHECKING, Any

import pydantic
import trio
import trio._core._run as trio_run
import trio._core._traps as trio_traps
from trio.testing import MockClock

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Iterator

    from .run import Run

# Written, and read by nobody who decides anything: counts, texts, wall time, and our own records.
UNREAD = {
    *("measurements", "lag", "beat_at", "_beat", "announcer", "redactor", "resolutions"),
    *("_generation", "_facts", "_attempt", "_error", "_last_ping", "_next_attempt_at", "_since"),
    *(
        "restarts",
        "runs",
        "metrics",
        "statistics",
        "seen",
        "iter_state",
        "attempt_number",
        "start_time",
    ),
    *("outcome_timestamp", "idle_for", "_local"),
    *("asked", "generation", "hook_calls", "hooks_done", "outcomes", "result", "steps", "breaches"),
    *("__weakref__", "began", "_scopes"),
}
# Never change, or are trio's own machinery: each task is walked, and so are the scopes around it.
OPAQUE = (
    *(types.ModuleType, type, types.BuiltinFunctionType, types.BuiltinMethodType),
    *(pydantic.BaseModel, MockClock, random.Random, types.TracebackType),
    *(trio.Nursery, trio.lowlevel.TrioToken, BaseException, trio_traps.WaitTaskRescheduled),
    *(threading.local, os._Environ, trio_run._TaskStatus, contextvars.Context),
)
WALKED = ("moorings.", "tests.exploration.", "exploration.", "tenacity")
WALKED_OF_TRIO = (trio.Event, trio.Lock, trio.lowlevel.ParkingLot)


class Unknown(Exception):
    """A kind of object that nobody has thought about."""


class Walk:
    """One walk over everything."""

    def __init__(self, now: float) -> None:
        self.now = now
        self.seen: dict[int, int] = {}
        self.kept: list[Any] = []

    def value(self, thing: Any) -> Hashable:
        """What `thing` is worth."""
        if thing is None or isinstance(thing, (bool, int, str, bytes, enum.Enum)):
            return thing
        if isinstance(thing, float):
            return self.time(thing)
        if isinstance(thing, OPAQUE) or type(thing) is object:
            return type(thing).__name__
        if id(thing) in self.seen:
            return ("again", self.seen[id(thing)])
        self.seen[id(thing)] = len(self.seen)
        self.kept.append(thing)  # else its address might be used again
        return (type(thing).__name__, *self.parts(thing))

    def time(self, moment: float) -> Hashable:
        """Moments of trio's clock are large, durations small, and wall time is larger still."""
        if math.isinf(moment) or moment < self.now / 2:
            return moment
        return "wall" if moment > self.now * 2 else ("now", moment - self.now)

    def parts(self, thing: Any) -> Iterable[Hashable]:  # noqa: PLR0911 - one for each kind
        """What it is made of."""
        match thing:
            case dict() | types.MappingProxyType():
                return [(self.value(key), self.value(item)) for key, item in thing.items()]
            case list() | tuple() | deque():
                return map(self.value, thing)
            case set() | frozenset():
                return self.unordered(thing)
            case types.FunctionType():
                cells = (c.cell_contents for c in thing.__closure__ or ())
                return (thing.__qualname__, *map(self.value, cells))
            case types.MethodType():
                return (thing.__name__, self.value(thing.__self__))
            case functools.partial():
                return (self.value(thing.func), self.value(thing.args))
            case types.CoroutineType() | types.GeneratorType():
                return self.frames(thing)
            case trio.lowlevel.Task():
                return (thing.name,)
            case trio.CancelScope():
                return (self.time(thing.deadline), thing.shield, thing.cancel_called)
            case _:
                return self.attributes(thing)

    def unordered(self, things: Any) -> Iterable[Hashable]:
        """A set: in an order that does not hang on addresses."""
        if len(things) == 1:
            return map(self.value, things)
        if all(isinstance(t, trio.lowlevel.Task) for t in things):
            return sorted(t.name for t in things)
        return sorted(things)

    def frames(self, coroutine: Any) -> Iterator[Hashable]:
        """Where it stands, and its variables; then what it awaits."""
        while coroutine is not None:
            match coroutine:
                case types.CoroutineType():
                    frame, inner = coroutine.cr_frame, coroutine.cr_await
                case types.GeneratorType():
                    frame, inner = coroutine.gi_frame, coroutine.gi_yieldfrom
                case _:
                    yield type(coroutine).__name__
                    return
            if frame is None:
                yield "over"
                return
            yield (frame.f_code.co_qualname, frame.f_lasti)
            for name, local in frame.f_locals.items():
                if name not in UNREAD:
                    yield (name, self.value(local))
            coroutine = inner

    def attributes(self, thing: Any) -> Iterator[Hashable]:
        """Those of its slots, and of its dictionary."""
        kind = type(thing)
        if not (kind.__module__.startswith(WALKED) or issubclass(kind, WALKED_OF_TRIO)):
            raise Unknown(f"{kind.__module__}.{kind.__qualname__}: {thing!r}")
        names = {n for base in kind.__mro__ for n in _slots(base)} | set(
            vars(thing) if hasattr(thing, "__dict__") else ()
        )
        for name in sorted(names - UNREAD):
            if hasattr(thing, name):
                yield (name, self.value(getattr(thing, name)))

    def task(self, task: trio.lowlevel.Task) -> Hashable:
        """A task, and the scopes that it is in."""
        scopes = []
        status = task._cancel_status
        while status is not None:
            scopes.append(self.value(status._scope))
            status = status._parent
        return (task.name, tuple(scopes), *self.frames(task.coro))


@functools.cache
def _slots(kind: type) -> tuple[str, ...]:
    slots = kind.__dict__.get("__slots__", ())
    return (slots,) if isinstance(slots, str) else tuple(slots)


def fingerprint(run: Run, tasks: Iterable[trio.lowlevel.Task]) -> int:
    """The present situation of a run that has settled."""
    walk = Walk(trio.current_time())
    seen = [walk.value(run.model), walk.value(run.connection), walk.value(run.backend)]
    named = sorted(tasks, key=lambda task: (task.name, task._counter))
    seen += [walk.task(task) for task in named]
    return hash(tuple(seen))
