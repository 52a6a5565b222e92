"""What `/events` says: pure decisions about what is news to one reader, and its text.

The newest state only. Whoever reads slowly is told less often, and never what is over by then.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Protocol

from .http_probes import Probed, readyz
from .status import ConnectionStatus

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from .history import History, Step


class Shown(Probed, Protocol):
    """What is shown to readers: a manager, as pages ask it."""

    @property
    def name(self) -> str:
        """The runtime's name."""

    @property
    def closed(self) -> bool:
        """Whether everything is over."""

    def keep_history(self) -> History:
        """The connections' last transitions."""

    async def change_within(self, seconds: float) -> None:
        """Wait for the next change of any connection, `seconds` at most."""


SNAPSHOT = "snapshot"
"""All connections, in the settings' order, with their history: forget what you knew."""
UPDATE = "update"
"""The connections that have changed, with the steps that are new."""
HEARTBEAT = "heartbeat"
"""Nothing new; all is well with the stream."""
END = "end"
"""The stream's last event, which says why it ends."""

_FIELDS = tuple(field.name for field in fields(ConnectionStatus))


@dataclass(frozen=True, slots=True)
class News:
    """What one reader does not know yet.

    Attributes:
        kind: `SNAPSHOT`, `UPDATE` or `HEARTBEAT`.
        changed: statuses, each with the steps of its connection that are new. Taken at the same
            moment: while the text is made, slice by slice, others may follow.
        readiness: what /readyz says; None: what it said last time.
    """

    kind: str
    changed: tuple[tuple[ConnectionStatus, tuple[Step, ...]], ...]
    readiness: Mapping[str, Any] | None


class Feed:
    """What one reader has been told so far."""

    def __init__(self, manager: Shown) -> None:
        self._manager = manager
        self._history = manager.keep_history()
        self._told: dict[str, ConnectionStatus] | None = None
        self._steps: dict[str, int] = {}
        self._readiness: Mapping[str, Any] | None = None

    def news(self) -> News:
        """What there is to tell now; it counts as told from here on."""
        statuses = {status.name: status for status in self._manager.statuses()}
        told = self._told
        if told is None or list(told) != list(statuses):
            kind, told, self._steps = SNAPSHOT, {}, {}
        else:
            kind = UPDATE
        changed = tuple(
            (status, self._history.of(name, self._steps.get(name, 0)))
            for name, status in statuses.items()
            if told.get(name) != status
        )
        self._told = statuses
        for status, _ in changed:
            self._steps[status.name] = self._history.total(status.name)
        before, self._readiness = self._readiness, readyz(self._manager)
        readiness = None if self._readiness == before and kind == UPDATE else self._readiness
        if kind == UPDATE and not changed and readiness is None:
            kind = HEARTBEAT
        return News(kind, changed, readiness)

    def text(self, news: News, now: float) -> Iterator[str]:
        """The event's text, in pieces: a thousand connections take more than a moment."""
        head: dict[str, Any] = {"now": now}
        if news.kind == SNAPSHOT:
            head["runtime"] = self._manager.name
        if news.readiness is not None:
            head["readiness"] = news.readiness
        yield f"event: {news.kind}\ndata: {json.dumps(head)[:-1]}"
        if news.kind != HEARTBEAT:
            yield ', "connections": ['
            for index, (status, steps) in enumerate(news.changed):
                yield (", " if index else "") + json.dumps(row(status, steps))
            yield "]"
        yield "}\n\n"


def row(status: ConnectionStatus, steps: Iterable[Step]) -> dict[str, Any]:
    """A connection as `/connections` shows it, and its `steps`."""
    shown = {name: getattr(status, name) for name in _FIELDS}
    return {**shown, "steps": [step._asdict() for step in steps]}


def last(why: str, retry: float) -> str:
    """The event that ends a stream.

    Args:
        why: `closed` (the runtime has stopped), `leaving` (its web server stops), `busy` (as many
            read already as may), `renewed` (long enough; come again).
        retry: when to come back, in seconds.
    """
    # `retry` as a field of its own is for browsers, which then wait so long by themselves.
    data = json.dumps({"why": why, "retry": retry})
    return f"event: {END}\nretry: {round(retry * 1000)}\ndata: {data}\n\n"
