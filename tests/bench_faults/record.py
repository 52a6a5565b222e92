"""Who noticed what, and when: events of several processes on the one monotonic clock they share."""

from __future__ import annotations

import json
import math
import queue
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).parents[2]
GONE = 20.0
"""How long a process may take to end once it is told to, in seconds."""

STATES = frozenset({"init", "connecting", "ready", "failed", "stopped", "up", "down"})

clock = time.monotonic  # Linux: the same for all processes


class Told:
    """The telling side: events go to stdout, a line each, from a thread of their own.

    Whoever notices something is mostly a driver's listener, or an event loop: neither may be held
    up by a pipe.
    """

    def __init__(self) -> None:
        self._queue: queue.SimpleQueue[tuple[float, str, str]] = queue.SimpleQueue()
        threading.Thread(target=self._write, daemon=True).start()

    def tell(self, who: str, what: str) -> None:
        """It has happened now. From any thread."""
        self._queue.put((clock(), who, what))

    def _write(self) -> None:
        while True:
            print(json.dumps(self._queue.get()), flush=True)


@dataclass(frozen=True)
class Noticed:
    """One event: at `at` on the clock, `who` noticed `what`."""

    at: float
    who: str
    what: str


class Record:
    """Everything that was noticed, in the order in which it was told."""

    def __init__(self) -> None:
        self._events: list[Noticed] = []
        self._news = threading.Condition()  # its lock is reentrant: conditions look things up

    def add(self, event: Noticed) -> None:
        """From any thread."""
        with self._news:
            self._events.append(event)
            self._news.notify_all()

    def find(self, who: str, what: str, after: float) -> float | None:
        """When `who` noticed `what` for the first time after that moment."""
        with self._news:
            times = [e.at for e in self._events if (e.who, e.what) == (who, what) and e.at > after]
        return min(times, default=None)

    def wait(self, who: str, what: str, after: float, within: float) -> float:
        """The same, waited for up to `within` seconds from now.

        Raises:
            TimeoutError: says who did not notice what.
        """
        if not self._wait(lambda: self.find(who, what, after) is not None, within):
            raise TimeoutError(f"{who} has not been {what} within {within:g} s")
        found = self.find(who, what, after)
        assert found is not None
        return found

    def state_at(self, who: str, moment: float = math.inf) -> str:
        """The state that `who` was in at that moment; "" before its first."""
        with self._news:
            past = [e for e in self._events if e.who == who and e.what in STATES]
        until = [e for e in past if e.at <= moment]
        return max(until, key=lambda e: e.at).what if until else ""

    def wait_in(self, who: str, state: str, within: float) -> None:
        """Wait up to `within` seconds until `who` is in a state.

        Raises:
            TimeoutError: as `wait`.
        """
        if not self._wait(lambda: self.state_at(who) == state, within):
            raise TimeoutError(f"{who} has not been {state} within {within:g} s")

    def _wait(self, condition: Callable[[], bool], within: float) -> bool:
        with self._news:
            return self._news.wait_for(condition, within)


class Program:
    """A process that tells what it notices, until the end of the `with` block.

    Args:
        record: where its events go; each `who` is prefixed by `name` and a slash.
        name: of the process.
        module: run as `python -m`.
        arguments: the module's.
    """

    def __init__(self, record: Record, name: str, module: str, *arguments: str) -> None:
        self._record = record
        self._name = name
        self._process = subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT, text=True,
        )  # fmt: skip
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Close its stdin, which ends it."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(GONE)
        finally:
            self._process.kill()
            self._reader.join()
            assert self._process.stdout is not None
            self._process.stdout.close()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            at, who, what = json.loads(line)
            self._record.add(Noticed(at, f"{self._name}/{who}", what))
