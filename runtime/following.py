"""A program that is followed from outside, through its ends as well: one change after another."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .asking import UnansweredError, events, status_of

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    from .status import ConnectionStatus

RETRY = 1.0
"""How long to wait before a program that is gone is asked again, in seconds."""
LIVED = 5.0
"""A stream that broke off is followed by the next at once if it lived so long, in seconds.
Something on the way that cuts each of them off after its snapshot would make a busy loop of it."""
LONGEST = 10.0
"""How long it takes at most until the next after one that lived shorter, in seconds: from `RETRY`
on, twice as long each time."""


@dataclass(frozen=True, slots=True)
class Told:
    """A connection stands like this. `at` is in Unix seconds, here and below."""

    at: float
    status: ConnectionStatus


@dataclass(frozen=True, slots=True)
class Removed:
    """A connection is no more."""

    at: float
    name: str


@dataclass(frozen=True, slots=True)
class Gone:
    """The program does not answer any more."""

    at: float
    why: str


@dataclass(frozen=True, slots=True)
class Back:
    """The program answers again; all that it has follows."""

    at: float


Change = Told | Removed | Gone | Back


class Follower:
    """Follows one program.

    Args:
        url: where it serves.
        polling: called when it turns out to have no events, so that it is asked again and again.
    """

    def __init__(self, url: str, polling: Callable[[], object]) -> None:
        self._url = url
        self._polling = polling
        self._known: dict[str, None] = {}
        self._heard = False
        self._gone = False
        self._wait = 0.0
        self._patience = RETRY

    def changes(self) -> Iterator[Change]:
        """What there is, then every change, for ever.

        Raises:
            UnansweredError: it did not even answer at first.
        """
        while True:
            why = yield from self._until_it_breaks_off()
            if why is not None and not self._gone:
                self._gone = True
                self._known.clear()
                yield Gone(time.time(), why)
            time.sleep(self._wait)

    def _until_it_breaks_off(self) -> Generator[Change, None, str | None]:
        """One stream; returns why the program is gone, if it is."""
        silent, began = True, time.monotonic()
        self._wait = RETRY
        try:
            for kind, data in events(self._url, self._polling):
                if kind == "end":
                    self._wait, self._patience = data["retry"], RETRY
                    return _GONE.get(data["why"])
                if self._gone:
                    yield Back(data["now"])
                self._heard, self._gone, silent = True, False, False
                yield from self._told(kind, data)
        except UnansweredError as error:
            if not self._heard:
                raise
            return str(error)
        if silent:
            return "its answer is empty"
        self._broke_off(time.monotonic() - began)
        return None

    def _broke_off(self, lived: float) -> None:
        """It did so in the middle: a proxy's bound, or the program's end; the next try tells."""
        if lived >= LIVED:
            self._wait, self._patience = 0.0, RETRY
        else:
            self._wait, self._patience = self._patience, min(self._patience * 2, LONGEST)

    def _told(self, kind: str, data: dict[str, Any]) -> Iterator[Change]:
        now, rows = data["now"], data.get("connections", [])
        if kind == "snapshot":
            names = {row["name"] for row in rows}
            for name in [name for name in self._known if name not in names]:
                del self._known[name]
                yield Removed(now, name)
        for row in rows:
            self._known[row["name"]] = None
            yield Told(now, status_of(row))


# All else makes room, or renews the stream: the program goes on.
_GONE = {"closed": "it has stopped", "leaving": "it is stopping"}
