"""What the log says of connections: one WARNING per outage, a summary a minute, one INFO after it.

Everything between is DEBUG. A peer was seen to write 732,000 lines in 30 hours of one outage.

After a crash the connection recovers first and the log is told afterwards: to render a traceback
takes longer than to start the next incarnation. From a crash on, events are kept with their time,
and told in order at the kernel's next heartbeat, or at its end.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .log_records import LogEvent, logger
from .state import Event, State

if TYPE_CHECKING:
    from .client import AttemptFailed
    from .connection import Connection
    from .redaction import Redactor

SUMMARY_INTERVAL = 60.0
"""Between two lines about one outage, in seconds."""


@dataclass(slots=True)
class _Outage:
    began: float
    told: float
    first: bool  # it never was ready before
    attempts: int = 0


class OutageLog:
    """Follows every connection's outages. Belongs to the trio thread, but for `flush`."""

    def __init__(self, redactor: Redactor) -> None:
        self._redactor = redactor
        self._outages: dict[str, _Outage] = {}
        self._connections: dict[str, Connection] = {}
        self._kept: deque[LogEvent] = deque()

    def stepped(
        self, connection: Connection, source: State, event: Event, cause: BaseException | None
    ) -> None:
        """A transition has been made."""
        if logger.isEnabledFor(logging.DEBUG):
            self._tell(
                logging.DEBUG,
                "transition",
                connection=connection.name,
                source=source.value,
                trigger=event.value,
                target=connection.state.value,
                **_why(connection),
            )
        match event:
            case Event.LOST:
                self._begin(connection, "connection lost")
            case Event.CRASHED:
                self._crashed(connection, cause)
            case Event.ESTABLISHED if self._outages:
                self._end(connection)
            case Event.STOP if self._outages:
                self._outages.pop(connection.name, None)
            case _:
                pass

    def attempt_failed(self, connection: Connection, failure: AttemptFailed) -> None:
        """An attempt to connect has failed; the first one is what people are told."""
        outage = self._outages.get(connection.name)
        if outage is None:
            outage = self._begin(connection, "connection not established")
        outage.attempts += 1
        self._tell(
            logging.DEBUG,
            "attempt failed",
            connection=connection.name,
            attempt=connection.status.attempt,
            reason=failure.reason.value,
            error=failure.text,
        )

    def parked(self, connection: Connection, error: str) -> None:
        """An optional connection has used its restart budget up."""
        supervision = connection.settings.supervision
        self._tell(
            logging.ERROR,
            "optional connection crashed too often and stays failed until it is restarted",
            connection=connection.name,
            intensity=supervision.intensity,
            period=supervision.period,
            error=error,
        )

    def summarise(self, now: float) -> None:
        """Say once a minute that an outage lasts. `now` is `time.monotonic()`."""
        self.flush()
        for name, outage in self._outages.items():
            if now - outage.told >= SUMMARY_INTERVAL:
                outage.told = now
                self._tell(
                    logging.WARNING,
                    "connection still down",
                    connection=name,
                    seconds=round(now - outage.began, 1),
                    attempts=outage.attempts,
                    **_why(self._connections[name]),
                )

    def flush(self) -> None:
        """Tell what was kept back, in order. From any thread: a watchdog may have the last word."""
        while self._kept:
            self._kept.popleft().tell(self._redactor)

    def _tell(
        self, level: int, event: str, raised: BaseException | None = None, **fields: Any
    ) -> None:
        if logger.isEnabledFor(level):
            told = LogEvent(level, event, fields, raised)
            if raised is not None or self._kept:
                self._kept.append(told)
            else:
                told.tell(self._redactor)

    def _begin(self, connection: Connection, event: str) -> _Outage:
        known = self._outages.get(connection.name)
        if known is not None:
            return known
        now = time.monotonic()
        outage = self._outages[connection.name] = _Outage(
            began=now, told=now, first=connection.generation == 0
        )
        self._connections[connection.name] = connection
        self._tell(logging.WARNING, event, connection=connection.name, **_why(connection))
        return outage

    def _end(self, connection: Connection) -> None:
        outage = self._outages.pop(connection.name, None)
        if outage is not None:
            self._tell(
                logging.INFO,
                "connection ready" if outage.first else "connection ready again",
                connection=connection.name,
                down_seconds=round(time.monotonic() - outage.began, 3),
                attempts=outage.attempts,
                generation=connection.generation,
            )

    def _crashed(self, connection: Connection, cause: BaseException | None) -> None:
        self._tell(
            logging.ERROR,
            "connection crashed",
            raised=cause,
            connection=connection.name,
            **_why(connection),
        )
        self._begin(connection, "connection lost")


def _why(connection: Connection) -> dict[str, Any]:
    status = connection.status
    why: dict[str, str] = {}
    if status.reason is not None:
        why["reason"] = status.reason.value
    if status.error is not None:
        why["error"] = status.error
    return why
