"""What the log says of connections: one WARNING per outage, a summary a minute, one INFO after it.

Everything between is DEBUG. A peer was seen to write 732,000 lines in 30 hours of one outage.

After a crash the connection recovers first and the log is told afterwards: to render a traceback
takes longer than to start the next incarnation. From a crash on, what happens is only noted, and
followed up in order at the kernel's next heartbeat, or at its end.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from .log_records import LogEvent, logger
from .state import Event

if TYPE_CHECKING:
    from collections.abc import Callable

    from .client import AttemptFailed
    from .connection import Connection
    from .redaction import Redactor
    from .state import State
    from .status import ConnectionStatus

SUMMARY_INTERVAL = 60.0
"""Between two lines about one outage, in seconds."""

# While nothing is down, the others are told at DEBUG only.
_NEWS = frozenset({Event.LOST, Event.CRASHED})


@dataclass(slots=True)
class _Outage:
    began: float
    told: float
    first: bool  # it never was ready before
    attempts: int = 0


@dataclass(slots=True)
class _Noted:
    """Something that happened, when, and what the connection said of itself then."""

    connection: Connection
    status: ConnectionStatus
    source: State | None = None
    event: Event | None = None
    error: BaseException | None = None
    text: str = ""
    at: float = field(init=False)  # Unix seconds
    monotonic: float = field(init=False)

    def __post_init__(self) -> None:
        self.at, self.monotonic = time.time(), time.monotonic()


class OutageLog:
    """Follows every connection's outages. Belongs to the trio thread, but for `flush`."""

    def __init__(self, redactor: Redactor) -> None:
        self._redactor = redactor
        self._outages: dict[str, _Outage] = {}
        self._connections: dict[str, Connection] = {}
        self._kept: deque[tuple[Callable[[_Noted], object], _Noted]] = deque()

    # -- what happened ------------------------------------------------------------------------

    def stepped(
        self, connection: Connection, source: State, event: Event, cause: BaseException | None
    ) -> None:
        """A transition has been made."""
        news = event in _NEWS or self._outages or self._kept
        if news or logger.isEnabledFor(logging.DEBUG):
            noted = _Noted(connection, connection.status, source, event, cause)
            self._take(self._follow, noted, later=event is Event.CRASHED)

    def attempt_failed(self, connection: Connection, failure: AttemptFailed) -> None:
        """An attempt to connect has failed; the first one is what people are told."""
        self._take(self._failed, _Noted(connection, connection.status, error=failure))

    def parked(self, connection: Connection, error: str) -> None:
        """An optional connection has used its restart budget up."""
        self._take(self._parked, _Noted(connection, connection.status, text=error))

    def summarise(self, now: float) -> None:
        """Say once a minute that an outage lasts. `now` is `time.monotonic()`."""
        self.flush()
        for name, outage in self._outages.items():
            if now - outage.told >= SUMMARY_INTERVAL:
                outage.told = now
                connection = self._connections[name]
                self._tell(
                    logging.WARNING,
                    "connection still down",
                    _Noted(connection, connection.status),
                    seconds=round(now - outage.began, 1),
                    attempts=outage.attempts,
                    **_why(connection.status),
                )

    def flush(self) -> None:
        """Follow up what was kept, in order. From any thread: a watchdog may have the last word."""
        while self._kept:
            follow, noted = self._kept.popleft()
            follow(noted)

    def _take(
        self, follow: Callable[[_Noted], object], noted: _Noted, *, later: bool = False
    ) -> None:
        if later or self._kept:
            self._kept.append((follow, noted))
        else:
            follow(noted)

    # -- what follows from it -----------------------------------------------------------------

    def _follow(self, noted: _Noted) -> None:
        assert noted.source is not None and noted.event is not None  # noqa: S101, PT018 - a step
        self._tell(
            logging.DEBUG,
            "transition",
            noted,
            source=noted.source.value,
            trigger=noted.event.value,
            target=noted.status.state.value,
            **_why(noted.status),
        )
        match noted.event:
            case Event.LOST:
                self._begin(noted, "connection lost")
            case Event.CRASHED:
                why = _why(noted.status)
                self._tell(logging.ERROR, "connection crashed", noted, raised=noted.error, **why)
                self._begin(noted, "connection lost")
            case Event.ESTABLISHED:
                self._end(noted)
            case Event.STOP:
                self._outages.pop(noted.connection.name, None)
            case _:
                pass

    def _failed(self, noted: _Noted) -> None:
        outage = self._begin(noted, "connection not established")
        outage.attempts += 1
        status = noted.status
        self._tell(logging.DEBUG, "attempt failed", noted, attempt=status.attempt, **_why(status))

    def _parked(self, noted: _Noted) -> None:
        supervision = noted.connection.settings.supervision
        self._tell(
            logging.ERROR,
            "optional connection crashed too often and stays failed until it is restarted",
            noted,
            intensity=supervision.intensity,
            period=supervision.period,
            error=noted.text,
        )

    def _begin(self, noted: _Noted, event: str) -> _Outage:
        name = noted.connection.name
        known = self._outages.get(name)
        if known is not None:
            return known
        outage = self._outages[name] = _Outage(
            began=noted.monotonic, told=noted.monotonic, first=noted.status.generation == 0
        )
        self._connections[name] = noted.connection
        self._tell(logging.WARNING, event, noted, **_why(noted.status))
        return outage

    def _end(self, noted: _Noted) -> None:
        outage = self._outages.pop(noted.connection.name, None)
        if outage is not None:
            self._tell(
                logging.INFO,
                "connection ready" if outage.first else "connection ready again",
                noted,
                down_seconds=round(noted.monotonic - outage.began, 3),
                attempts=outage.attempts,
                generation=noted.status.generation,
            )

    def _tell(
        self,
        level: int,
        event: str,
        noted: _Noted,
        *,
        raised: BaseException | None = None,
        **fields: Any,
    ) -> None:
        if logger.isEnabledFor(level):
            fields = {"connection": noted.connection.name, **fields}
            LogEvent(level, event, fields, raised, noted.at).tell(self._redactor)


def _why(status: ConnectionStatus) -> dict[str, Any]:
    why: dict[str, str] = {}
    if status.reason is not None:
        why["reason"] = status.reason.value
    if status.error is not None:
        why["error"] = status.error
    return why
